//! Layers: weights with the operation they belong to.

mod activation;
mod conv;
mod linear;
mod norm;

pub use activation::Activation;
pub use conv::Conv2d;
pub use linear::Linear;
pub use norm::{GroupNorm, LayerNorm};
