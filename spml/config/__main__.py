"""Print every configuration key with its values, default and meaning: `python -m spml.config`."""
from spml.config import describe
from spml.program import execute


def main():
    """Print the table."""
    print(describe())


if __name__ == '__main__':
    execute(main)
