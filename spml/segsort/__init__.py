"""Pixel-to-segment contrast for any network: k-means, segments, the four relations, the memory bank and retrieval.

A batch goes from a network's embeddings to `make_segments`, which clusters the pixels and forms segments; through
`MemoryBank.extend`, which adds those of earlier steps; to `RelationCriterion`, which returns one loss a relation. The
relations are also plain functions of tensors, for segments of any other origin.
"""
from spml.segsort.clustering import cluster_image, initial_clusters, spherical_kmeans, sum_by_label
from spml.segsort.contrast import contrastive_loss
from spml.segsort.criterion import RelationCriterion, retrieval_accuracy
from spml.segsort.memory_bank import MemoryBank
from spml.segsort.relations import (
    co_occurrence_loss,
    feature_affinity_loss,
    image_similarity_loss,
    propagate_classes,
    semantic_annotation_loss,
)
from spml.segsort.retrieval import cluster_prototypes, majority_labels, nearest_label_counts
from spml.segsort.segments import Pixels, Segments, location_features, make_segments, nearest_resize

__all__ = [
    'MemoryBank', 'Pixels', 'RelationCriterion', 'Segments', 'cluster_image', 'cluster_prototypes',
    'co_occurrence_loss', 'contrastive_loss', 'feature_affinity_loss', 'image_similarity_loss', 'initial_clusters',
    'location_features', 'majority_labels', 'make_segments', 'nearest_label_counts', 'nearest_resize',
    'propagate_classes', 'retrieval_accuracy', 'semantic_annotation_loss', 'spherical_kmeans', 'sum_by_label',
]
