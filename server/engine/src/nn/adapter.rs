//! Low-rank adapters (LoRA, arXiv:2106.09685) beside a layer's own weights: `y += s · B(A(x))`.
//!
//! A layer owns nothing but a number, its slot. Which adapters a slot has is decided for one
//! generation at a time, by the thread that runs it ([`with_adapters`]): so they come, go and
//! change their weights without touching the model, and generations on several threads can use
//! one model with different adapters.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::{Result, Tensor};

use super::{Ops, Weight};
use crate::cpu::ConvGeometry;

/// A layer's place for adapters.
#[derive(Debug)]
pub struct AdapterSlot(u64);

/// What a layer that can be adapted maps to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerShape {
    /// A linear layer.
    Linear {
        /// Width of its input.
        inputs: usize,
        /// Width of its output.
        outputs: usize,
    },
    /// A convolution.
    Conv {
        /// Channels of its input.
        inputs: usize,
        /// Channels of its output.
        outputs: usize,
        /// Side of its square kernel.
        kernel: usize,
    },
}

/// A layer as a LoRA file's keys are resolved to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdaptableLayer {
    slot: u64,
    /// What an adapter has to fit.
    pub shape: LayerShape,
}

/// All layers of one component by their names in it, such as `mid_block.attentions.0.proj_in`.
pub type LayerTable = BTreeMap<String, AdaptableLayer>;

/// The two (or three) factors of an adapter.
#[derive(Clone, Debug)]
pub struct LowRank {
    /// A: (rank, inputs), or (rank, inputs · k · k) for a convolution.
    pub down: Weight,
    /// The core of a Tucker decomposition, (rank, rank · k · k): then `down` is 1×1 and this one
    /// has the layer's kernel, stride and padding.
    pub core: Option<Weight>,
    /// B: (outputs, rank).
    pub up: Weight,
}

/// The adapters of one generation.
#[derive(Clone, Debug, Default)]
pub struct AdapterSet {
    slots: HashMap<u64, Vec<(Arc<LowRank>, f32)>>,
    /// Different for sets that change what the text encoders give; 0 where none does.
    pub text_key: u64,
}

thread_local! {
    static ACTIVE: RefCell<Option<Arc<AdapterSet>>> = const { RefCell::new(None) };
}

/// Runs `work` with the given adapters in all layers that it calls on this thread.
pub fn with_adapters<T>(adapters: Option<Arc<AdapterSet>>, work: impl FnOnce() -> T) -> T {
    /// Puts back what was there, also if `work` panics.
    struct Restore(Option<Arc<AdapterSet>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            ACTIVE.set(self.0.take());
        }
    }
    let _restore = Restore(ACTIVE.replace(adapters));
    work()
}

/// What distinguishes the text encoders' adapters of this thread from others: part of the key of
/// whatever is remembered about encoded prompts. 0 means none.
pub fn text_adapters_key() -> u64 {
    ACTIVE.with_borrow(|active| active.as_ref().map_or(0, |set| set.text_key))
}

impl AdapterSet {
    /// Adds an adapter to a layer; `scale` multiplies what it gives.
    pub fn add(&mut self, layer: &AdaptableLayer, factors: Arc<LowRank>, scale: f32) {
        self.slots
            .entry(layer.slot)
            .or_default()
            .push((factors, scale));
    }
}

impl AdapterSlot {
    /// A slot that no other layer of this process has.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The layer of this slot, for a table.
    pub(crate) fn layer(&self, shape: LayerShape) -> AdaptableLayer {
        AdaptableLayer {
            slot: self.0,
            shape,
        }
    }

    fn adapters(&self) -> Option<(Arc<AdapterSet>, u64)> {
        ACTIVE.with_borrow(|active| {
            active
                .as_ref()
                .filter(|set| set.slots.contains_key(&self.0))
                .map(|set| (Arc::clone(set), self.0))
        })
    }

    /// Adds what the active adapters make of a linear layer's `input` to its output `out`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn apply(&self, ops: &Ops, input: &Tensor, mut out: Tensor) -> Result<Tensor> {
        if let Some((set, slot)) = self.adapters() {
            for (factors, scale) in &set.slots[&slot] {
                let narrow = (ops.linear(input, &factors.down, None)? * f64::from(*scale))?;
                out = (out + ops.linear(&narrow, &factors.up, None)?)?;
            }
        }
        Ok(out)
    }

    /// As [`AdapterSlot::apply`], for a convolution of this geometry.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn apply_conv(
        &self,
        ops: &Ops,
        input: &Tensor,
        mut out: Tensor,
        kernel: usize,
        geometry: ConvGeometry,
    ) -> Result<Tensor> {
        if let Some((set, slot)) = self.adapters() {
            for (factors, scale) in &set.slots[&slot] {
                let narrow = match &factors.core {
                    None => ops.conv2d(input, &factors.down, None, kernel, geometry)?,
                    Some(core) => {
                        let same = ConvGeometry::same(1);
                        let narrow = ops.conv2d(input, &factors.down, None, 1, same)?;
                        ops.conv2d(&narrow, core, None, kernel, geometry)?
                    }
                };
                let narrow = (narrow * f64::from(*scale))?;
                let same = ConvGeometry::same(1);
                out = (out + ops.conv2d(&narrow, &factors.up, None, 1, same)?)?;
            }
        }
        Ok(out)
    }
}
