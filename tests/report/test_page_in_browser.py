"""The page in a browser, opened from disk: no error on the console, nothing fetched, whatever its width and colours."""
import base64
import dataclasses
import io
import shutil

import numpy as np
import pytest
from PIL import Image

from spml.report.page import write_page
from spml.report.run_folder import read_runs

DESKTOP, PHONE = 1280, 390
# One browser for all.
pytestmark = pytest.mark.xdist_group('browser')
PAGE_COLOURS = {'light': (255, 255, 255), 'dark': (18, 21, 26)}


@pytest.fixture(scope='module')
def browser():
    programs = {name: shutil.which(name) for name in ('chromium', 'chromedriver')}
    missing = [name for name, path in programs.items() if path is None]
    if missing:
        pytest.skip(f'{" and ".join(missing)} not found (Debian: apt-get install chromium chromium-driver)')
    from selenium import webdriver
    options = webdriver.ChromeOptions()
    options.binary_location = programs['chromium']
    # Without a sandbox, since tests in containers run as root; without names of hosts, so that nothing can be fetched.
    for argument in ('--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage',
                     '--host-resolver-rules=MAP * ~NOTFOUND'):
        options.add_argument(argument)
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(programs['chromedriver']))
    yield driver
    driver.quit()


@pytest.fixture
def path(made):
    # Names of a sweep's runs are long and have no blank.
    runs = [dataclasses.replace(run, name=f'{run.name},sem_occ_loss_types=none,max_iteration=25,seed=0')
            for run in read_runs(made.runs)]
    write_page(runs, made.runs[0] / 'report.html')
    return made.runs[0] / 'report.html'


def open_page(browser, path, width, scheme):
    """Show the page in a window of some width, in light or dark; returns a screenshot of all of it."""
    browser.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', {
        'width': width, 'height': 900, 'deviceScaleFactor': 1, 'mobile': width == PHONE})
    browser.execute_cdp_cmd('Emulation.setEmulatedMedia', {
        'features': [{'name': 'prefers-color-scheme', 'value': scheme}]})
    browser.get(path.as_uri())
    shot = browser.execute_cdp_cmd('Page.captureScreenshot', {'captureBeyondViewport': True, 'format': 'png'})
    return np.array(Image.open(io.BytesIO(base64.b64decode(shot['data']))).convert('RGB'))


def luminance(colour):
    channels = np.array(colour, float) / 255
    linear = np.where(channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize('width', [DESKTOP, PHONE])
def test_the_page_shows_without_errors(browser, path, width, scheme):
    screenshot = open_page(browser, path, width, scheme)
    assert browser.get_log('browser') == []
    assert browser.execute_script('return performance.getEntriesByType("resource").length') == 0
    # Nothing sticks out to the side: a phone shows all of it without scrolling sideways.
    assert browser.execute_script('return document.documentElement.scrollWidth') <= width
    # Plotly drew every chart, within its place.
    widths = browser.execute_script("""return [...document.querySelectorAll('.js-plotly-plot')].map(
        (chart) => [chart.querySelector('.main-svg').clientWidth, chart.parentElement.clientWidth])""")
    assert len(widths) >= 10
    assert all(0 < drawn <= place + 1 for drawn, place in widths)
    assert browser.execute_script('return [...document.images].every((image) => image.naturalWidth > 0)')
    # The picture is the page in its scheme, with something on it.
    assert screenshot.shape[1] <= width
    assert tuple(screenshot[2, 2]) == PAGE_COLOURS[scheme]
    assert screenshot.std() > 10


def test_errors_and_requests_would_be_noticed(browser, path, tmp_path):
    text = path.read_text(encoding='utf-8')
    for addition in ('<script>no_such_name()</script>', '<img src="https://example.org/a.png" alt="">'):
        broken = tmp_path / 'broken.html'
        broken.write_text(text.replace('</footer>', f'{addition}</footer>'), encoding='utf-8')
        open_page(browser, broken, DESKTOP, 'light')
        assert browser.get_log('browser')


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_text_stands_out_from_the_page(browser, path, scheme):
    open_page(browser, path, DESKTOP, scheme)
    colours = browser.execute_script("""return ['body', '.faint', 'figcaption', 'a', '.xtick text', '.ytick text',
        '.infolayer .xtitle', '.legendtext', '.heatmaplayer text'].map((selector) => {
            const style = getComputedStyle(document.querySelector(selector));
            return [selector, selector.includes(' ') || selector === '.legendtext' ? style.fill : style.color]; })""")
    for selector, colour in colours:
        values = [int(part) for part in colour.removeprefix('rgb(').removesuffix(')').split(',')]
        assert contrast(values, PAGE_COLOURS[scheme]) >= 4.5, (selector, colour)
