//! Layers: weights with the operation they belong to, and what computes those.

mod activation;
mod adapter;
mod conv;
mod generic;
mod linear;
mod norm;
mod ops;
mod weight;

pub use activation::Activation;
pub use adapter::{
    AdaptableLayer, AdapterSet, AdapterSlot, LayerShape, LayerTable, LowRank, text_adapters_key,
    with_adapters,
};
pub use conv::Conv2d;
pub use linear::Linear;
pub use norm::{GroupNorm, LayerNorm};
pub use ops::{OP_NAMES, Ops};
pub use weight::Weight;
