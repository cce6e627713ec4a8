//! A layer's weight: where it lies in its file, and its copy where one is needed.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use candle_core::{Result, Tensor};

use super::Ops;
use crate::weights::StoredMatrix;

/// A matrix of weights that knows what computes with it. Cloning shares it.
///
/// The kernels read it as it is stored, or in int8, into which it is rounded when it is first asked for.
/// Everything else gets a tensor on the device, made when it is first asked for and kept until
/// [`Weight::drop_copy`].
#[derive(Clone)]
pub struct Weight(Arc<Inner>);

struct Inner {
    rows: usize,
    ops: Ops,
    /// What the kernels read.
    held: OnceLock<StoredMatrix>,
    /// What that is made from, until it is.
    source: Mutex<Option<StoredMatrix>>,
    copy: RwLock<Option<Tensor>>,
}

impl std::fmt::Debug for Weight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} rows, {:?}", self.0.rows, self.0.held.get())
    }
}

impl Weight {
    /// A weight for use by `ops`.
    pub fn new(stored: StoredMatrix, ops: &Ops) -> Self {
        let rows = stored.rows();
        let (held, source) = if ops.numbers().narrows_weights() {
            (OnceLock::new(), Some(stored))
        } else {
            (OnceLock::from(stored), None)
        };
        Self(Arc::new(Inner {
            rows,
            ops: ops.clone(),
            held,
            source: Mutex::new(source),
            copy: RwLock::default(),
        }))
    }

    /// As the kernels read it.
    ///
    /// # Errors
    /// If there is no memory for it in int8.
    pub fn held(&self) -> Result<&StoredMatrix> {
        if let Some(held) = self.0.held.get() {
            return Ok(held);
        }
        let lock = self.0.source.lock();
        let mut source = lock.unwrap_or_else(PoisonError::into_inner);
        if let Some(matrix) = source.take() {
            match matrix.rounded() {
                Ok(rounded) => {
                    matrix.release();
                    // Nobody else sets it: whoever does holds the lock.
                    let _ = self.0.held.set(rounded);
                }
                Err(error) => {
                    *source = Some(matrix);
                    candle_core::bail!("no memory for weights in int8: {error}");
                }
            }
        }
        match self.0.held.get() {
            Some(held) => Ok(held),
            None => candle_core::bail!("a weight without numbers"),
        }
    }

    /// Says that a layer is done with it: where memory is short, its pages are given back.
    pub(super) fn done(&self) {
        if self.0.ops.streams()
            && let Some(held) = self.0.held.get()
        {
            held.release();
        }
    }

    /// Says that it is needed now.
    pub(super) fn begin(&self) {
        if self.0.ops.streams()
            && let Some(held) = self.0.held.get()
        {
            held.fetch();
        }
    }

    /// Number of rows: a layer's outputs.
    pub fn rows(&self) -> usize {
        self.0.rows
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
        let tensor = ops.upload(self.held()?)?;
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
