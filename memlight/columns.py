"""Columns of every table that an analysis writes: one place for who writes and who reads them."""

LAYERMEM_TABLE = (
    *("layer", "depth", "layermem", "delta", "control_independent", "control_external", "control_shared"),
    *("contrast", "contrast_low", "contrast_high", "top50", "least50", "n"),
)
LAYERMEM_SAMPLES = ("id", "split", "label", "layer", "align_f", "align_g", "score")
LAYERMEM_INTERVALS = (
    "layer",
    *(
        f"{name}{end}"
        for name in ("layermem", "top50", "least50", "control_independent", "control_external", "control_shared")
        for end in ("", "_low", "_high")
    ),
)
LAYERMEM_TESTS = ("layer", "control", "t", "p")
_AGREEMENT = ("n", "top", "overlap", "chance", "chance_p95", "tau", "tau_low", "tau_high")
LAYERMEM_AGREEMENT = ("split", "layer_a", "layer_b", *_AGREEMENT)
LAYERMEM_BLOCKS = ("block", "part", "layer", "layermem", "delta", "contrast", "contrast_low", "contrast_high")
UNITMEM_TABLE = (
    *("layer", "depth", "unit", "unitmem", "mu_max", "mu_rest", "max_id", "dead"),
    *("unitmem_median", "mu_rest_median"),
)
UNITMEM_LAYERS = (
    *("layer", "depth", "units", "dead", "mean", "p95", "max", "top_mean", "bottom_mean"),
    *("null_mean", "null_p95", "held_out_mean", "t", "p"),
    *("unit_contrast", "unit_contrast_low", "unit_contrast_high"),
    *("own_max_share", "own_max_low", "own_max_high"),
)
UNITMEM_EXCESS = ("layer", "depth", "unit", "unitmem", "null", "null_p95", "excess", "held_out", "null_draw")
UNITMEM_NULL = (
    *("layer", "mean", "null_mean", "excess", "excess_low", "excess_high"),
    *("held_out_excess", "held_out_low", "held_out_high", "above_null_p95"),
)
UNITMEM_HIGHEST = (
    *("rank", "layer", "unit", "unitmem", "null", "null_p95", "held_out", "mu_max", "mu_rest", "max_id"),
    "unitmem_median",
)
UNITMEM_TESTS = ("layer", "scores", "k", "top_mean", "top_std", "bottom_mean", "bottom_std", "t", "p")
UNITMEM_EXTREMES = ("layer", "scores", "units", "top", "bottom")
UNITMEM_MEDIANS = ("layer", "scores", "units", "mean", "median", "null", "null_median", "pearson", "spearman")
UNITMEM_TOP = ("layer", "unit", "rank", "id", "mu")
UNITMEM_RELIABILITY = ("layer", "split_half")
UNITMEM_CURVE = ("layer", "n", "mean")
CLASSMEM_TABLE = ("layer", "depth", "unit", "classmem", "max_class", "mu_max", "mu_rest")
CLASSMEM_LAYERS = (
    *("layer", "depth", "units", "dead", "mean", "p95", "max"),
    *("null_mean", "null_p95", "held_out_mean", "unitmem_mean"),
)
CLASSMEM_CLASSES = ("class", "class_name", "images")
PRUNE_TABLE = ("mode", "scope", "ratio", "trial", "units", "probe_top1", "knn_top1", "drop")
PRUNE_EFFECTS = (
    *("scope", "ratio", "mode", "units", "dead", "drop", "drop_low", "drop_high"),
    *("random", "random_low", "random_high", "draws", "excess", "excess_low", "excess_high", "verdict"),
)
PRUNE_UNITS = ("mode", "scope", "ratio", "trial", "layer", "units", "dead", "pruned")
EXCHANGE_TABLE = ("layers", "dataset", "probe_top1", "layermem_before", "layermem_after")
EXCHANGE_EFFECTS = (
    *("layers", "dataset", "recalibrated", "top1", "drop", "drop_low", "drop_high", "knn_top1", "n_train", "n_test"),
)
EXCHANGE_LAYERS = (
    *("layers", "layer", "recalibrated", "layermem_before", "layermem_after"),
    *("contrast_before", "contrast_before_low", "contrast_before_high"),
    *("contrast_after", "contrast_after_low", "contrast_after_high"),
)
UNIT_TABLE = (
    *("method", "epoch", "unitmem", "mu_max", "mu_rest", "max_id", "mu_of_ids", "rank"),
    *("null_mean", "null_p95", "loss"),
)
UNIT_OTHERS = ("method", "unit", "trained", "unitmem_before", "unitmem_after", "max_id_before", "max_id_after")
UNIT_ACCURACY = ("encoder", "probe_top1", "knn_top1", "n_train", "n_test")
FINETUNE_TABLE = ("arm", "layers", "rank_by", "count", "trial", "trained_parameters", "top1", "gain")
FINETUNE_EFFECTS = (
    *("arm", "layers", "rank_by", "count", "trials", "trained_parameters", "top1", "top1_low", "top1_high"),
    *("gain", "gain_low", "gain_high", "over_random", "over_random_low", "over_random_high"),
)
REMOVAL_WITHOUT = ("id", "layer", "score")
REMOVAL_TABLE = ("arm", "trial", "removed", "probe_top1", "knn_top1", "drop")
REMOVAL_EFFECTS = (
    *("arm", "removed", "drop", "drop_low", "drop_high", "random", "random_low", "random_high", "draws"),
    *("excess", "excess_low", "excess_high", "verdict"),
)
REMOVAL_ARMS = (
    *("arm", "trial", "removed", "layer", "mean_score", "in_top", "class_shift"),
    *("images_per_epoch", "steps_per_epoch"),
)
REMOVAL_CLASSES = ("arm", "trial", "class", "class_name", "removed", "candidates")
PATCHES_TABLE = ("statistic", "value", "low", "high", "null", "null_low", "null_high", "maximum")
PATCHES_IMAGES = (
    *("image", "name", "mean_distance", "median_distance", "sources", "top_source", "top_name", "top_share"),
    *("entropy", "same_position"),
)
PATCHES_ORIGINS = ("source", "name", "patches", "images")
PATCHES_RAREFACTION = ("patches", "sources", "null")
PATCHES_NEAREST = ("image", "patch", "source", "source_patch", "distance")
PATCHES_COMPARE = ("model", "images", *PATCHES_TABLE, "over_held_out", "over_low", "over_high")
PROBE_TABLE = ("member", "features", "evaluation", "top1", "top5", "n_train", "n_test")
IMAGES_DESCRIBED = (
    *("spectral_slope", "high_frequency", "edge_density", "bytes_per_pixel", "colourfulness", "foreground_share"),
    *("brightness", "rms_contrast"),
)
IMAGES_TABLE = ("id", "split", "label", "units", "top_units", *IMAGES_DESCRIBED, "cluster")
IMAGES_OWNERSHIP = (
    *("split", "layer", "which", "units", "images"),
    *(
        f"{name}{end}"
        for name in ("owners", "top_1", "top_10", "most")
        for end in ("", "_null", "_null_low", "_null_high")
    ),
)
IMAGES_CURVE = ("share", "units", "null", "null_low", "null_high", "held_out_units")
IMAGES_DESCRIPTORS = (
    *("descriptor", "rho", "null_low", "null_high", "p", "q", "held_out_rho", "held_out_p", "held_out_q"),
    *("beyond", "beyond_p", "beyond_q"),
)
IMAGES_MATCHED = (
    *("descriptor", "pairs", "within_class", "difference", "null_low", "null_high", "p", "q"),
    *("unmatched", "imbalance", "imbalance_unmatched"),
    *("held_out_pairs", "held_out_difference", "held_out_p", "held_out_q"),
)
IMAGES_CLUSTERS = (
    *("cluster", "images", "drivers", "controls", "driver_share", "null_low", "null_high", "p", "q"),
    *("units", "unit_share", "class_name", "class_share"),
)
IMAGES_SILHOUETTES = ("k", "silhouette")
COMPARE_LAYERS = (
    *("run", "layer", "depth", "relative_depth", "contrast", "contrast_low", "contrast_high", "layermem"),
    *("unitmem", "null", "unit_contrast", "unit_contrast_low", "unit_contrast_high"),
    *("own_max_share", "own_max_low", "own_max_high", "classmem"),
)
COMPARE_GROUPS = ("number", "runs", "mean", "lowest", "highest", "mean_low", "mean_high")
REPEATS_LAYERS = ("layer", "depth", *COMPARE_GROUPS)
REPEATS_NUMBERS = ("analysis", *COMPARE_GROUPS)
REPEATS_AGREEMENT = ("split", "layer", "run_a", "run_b", *_AGREEMENT)

OPTIONAL_COLUMNS = frozenset(UNITMEM_TABLE[8:] + UNITMEM_LAYERS[14:] + UNITMEM_EXCESS[8:])
"""Columns a table may leave out: the median form of UnitMem, what only a pair of encoders has, what came later."""

TEXT_COLUMNS = frozenset(
    {"layer", "split", "control", "member", "features", "evaluation", "part", "class_name", "pruned"}
    | {"arm", "layers", "rank_by", "which", "descriptor"}
    | {"layer_a", "layer_b", "run_a", "run_b", "dataset"}
    | {"run", "measure", "swapped"}
    | {"statistic", "name", "top_name", "model"}
)
"""Columns that stay text where every cell looks like a number, as the layers "0", "1" of ``nn.Sequential``."""
