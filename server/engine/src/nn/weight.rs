//! A layer's weight: where it lies in its file, and its copy on the device where one is needed.

use std::sync::{Arc, PoisonError, RwLock};

use candle_core::{Result, Tensor};

use super::Ops;
use crate::weights::StoredMatrix;

/// A matrix of weights that knows what computes with it. Cloning shares it.
///
/// The kernels read it as it is stored. Everything else gets a tensor on the device, made when it is
/// first asked for and kept until [`Weight::drop_copy`].
#[derive(Clone)]
pub struct Weight(Arc<Inner>);

struct Inner {
    stored: StoredMatrix,
    ops: Ops,
    copy: RwLock<Option<Tensor>>,
}

impl std::fmt::Debug for Weight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.stored.fmt(f)
    }
}

impl Weight {
    /// A weight for use by `ops`.
    pub fn new(stored: StoredMatrix, ops: &Ops) -> Self {
        Self(Arc::new(Inner {
            stored,
            ops: ops.clone(),
            copy: RwLock::default(),
        }))
    }

    /// As it is stored.
    pub fn stored(&self) -> &StoredMatrix {
        &self.0.stored
    }

    /// Number of rows: a layer's outputs.
    pub fn rows(&self) -> usize {
        self.0.stored.rows()
    }

    /// On the device, in the number format that is computed in: (rows, columns).
    ///
    /// # Errors
    /// If the device has no room for it.
    pub(super) fn tensor(&self) -> Result<Tensor> {
        let ops = &self.0.ops;
        let copy = self.0.copy.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(tensor) = &*copy {
            return ops.compute_format(tensor);
        }
        drop(copy);
        // Two threads may copy at once; both copies are the same, and the last stays.
        let tensor = ops.upload(&self.0.stored)?;
        let result = ops.compute_format(&tensor);
        *self.0.copy.write().unwrap_or_else(PoisonError::into_inner) = Some(tensor);
        result
    }

    /// Copies it to the device now, if anything but the kernels computes with it.
    ///
    /// # Errors
    /// If the device has no room for it.
    pub fn make_copy(&self) -> Result<()> {
        if self.0.ops.has_kernels() {
            return Ok(());
        }
        self.tensor().map(|_| ())
    }

    /// Frees the device's copy.
    pub fn drop_copy(&self) {
        *self.0.copy.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
