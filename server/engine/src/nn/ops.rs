//! What layers compute with.

/// Names of all operations, as checks and faults call them.
pub const OP_NAMES: &[&str] = &[
    "cast",
    "affine",
    "add",
    "silu",
    "gelu",
    "quick_gelu",
    "geglu",
    "linear",
    "conv2d 3x3",
    "conv2d 1x1",
    "conv2d 3x3 stride 2",
    "group_norm",
    "layer_norm",
    "softmax",
    "attention",
    "upsample nearest",
    "index select",
    "channels last",
    "cat",
];
