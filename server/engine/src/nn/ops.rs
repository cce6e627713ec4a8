//! What layers compute with: the engine's own kernels on the CPU in f32, and plain candle
//! operations on every other device and in every other number format.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor};

use super::{Weight, generic};
use crate::cpu::{self, ConvGeometry, Pointwise};
use crate::cpu_mode::CpuNumbers;
use crate::device::{ComputeDtype, DeviceId, Residence};
use crate::fault::{DeviceFault, FaultKind};
use crate::weights::{Format, StoredMatrix};
use crate::{faults, memory};

/// Names of all operations, as checks, faults and errors call them.
pub const OP_NAMES: &[&str] = &[
    "cast",
    "affine",
    "add",
    "activation",
    "geglu",
    "linear",
    "conv2d 3x3",
    "conv2d 1x1",
    "conv2d stride 2",
    "group_norm",
    "layer_norm",
    "softmax",
    "attention",
    "upsample",
    "index select",
    "channels last",
    "cat",
];

/// A device in a number format, and how it is computed with. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Ops(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    id: DeviceId,
    device: Device,
    dtype: ComputeDtype,
    storage: ComputeDtype,
    residence: Residence,
    /// Whether the engine's kernels compute; else candle's operations do.
    kernels: bool,
    /// What kernels compute weights' products with.
    numbers: CpuNumbers,
    /// Whether kernels give the pages of each weight back when they have used it.
    streams: bool,
}

impl Ops {
    /// The engine's kernels: the CPU in f32.
    pub fn kernels() -> Self {
        Self(Arc::new(Inner {
            id: DeviceId::Cpu,
            device: Device::Cpu,
            dtype: ComputeDtype::F32,
            storage: ComputeDtype::F32,
            residence: Residence::Whole,
            kernels: true,
            numbers: CpuNumbers::Full,
            streams: false,
        }))
    }

    /// Opens a device. Weights are kept in `storage`, where that is another format.
    ///
    /// # Errors
    /// [`DeviceFault`] if there is no such device, or it cannot be used.
    pub fn open(
        id: DeviceId,
        dtype: ComputeDtype,
        storage: Option<ComputeDtype>,
        residence: Residence,
    ) -> std::result::Result<Self, DeviceFault> {
        let device = match id {
            DeviceId::Cpu => Device::Cpu,
            DeviceId::Cuda(at) => {
                open_cuda(at).map_err(|fault| fault.during(format!("opening {id}")))?
            }
        };
        Ok(Self(Arc::new(Inner {
            id,
            device,
            dtype,
            storage: storage.unwrap_or(dtype),
            residence,
            kernels: id == DeviceId::Cpu && dtype == ComputeDtype::F32,
            numbers: CpuNumbers::Full,
            streams: false,
        })))
    }

    /// The same, with weights' products computed by other numbers and pages given back after each, as
    /// far as kernels compute.
    #[must_use]
    pub fn with_weights(&self, numbers: CpuNumbers, streams: bool) -> Self {
        let (numbers, streams) = if self.0.kernels {
            (numbers, streams)
        } else {
            (CpuNumbers::Full, false)
        };
        if (numbers, streams) == (self.0.numbers, self.0.streams) {
            return self.clone();
        }
        Self(Arc::new(Inner {
            id: self.0.id,
            device: self.0.device.clone(),
            dtype: self.0.dtype,
            storage: self.0.storage,
            residence: self.0.residence,
            kernels: self.0.kernels,
            numbers,
            streams,
        }))
    }

    /// The same for the components beside a UNet: their numbers stay as they are stored, and where the
    /// UNet's are made smaller to save memory, their pages go as soon as they have been used.
    #[must_use]
    pub fn beside_unet(&self) -> Self {
        self.with_weights(
            CpuNumbers::Full,
            self.0.streams || self.0.numbers.narrows_weights(),
        )
    }

    /// What weights' products are computed with.
    pub fn numbers(&self) -> CpuNumbers {
        self.0.numbers
    }

    /// Whether the pages of each weight are given back when it has been used.
    pub fn streams(&self) -> bool {
        self.0.streams
    }

    /// The same device in another number format.
    #[must_use]
    pub fn in_dtype(&self, dtype: ComputeDtype) -> Self {
        if dtype == self.0.dtype {
            return self.clone();
        }
        Self(Arc::new(Inner {
            id: self.0.id,
            device: self.0.device.clone(),
            dtype,
            storage: self.0.storage,
            residence: self.0.residence,
            kernels: self.0.id == DeviceId::Cpu && dtype == ComputeDtype::F32,
            numbers: CpuNumbers::Full,
            streams: false,
        }))
    }

    /// The device.
    pub fn id(&self) -> DeviceId {
        self.0.id
    }

    /// The number format that is computed in.
    pub fn dtype(&self) -> ComputeDtype {
        self.0.dtype
    }

    /// How much of a model is on the device at a time.
    pub fn residence(&self) -> Residence {
        self.0.residence
    }

    /// Whether the engine's own kernels compute.
    pub fn has_kernels(&self) -> bool {
        self.0.kernels
    }

    /// Bytes that are free for work; `None` where the system does not say.
    pub fn available(&self) -> Option<u64> {
        #[cfg(feature = "cuda")]
        if let Device::Cuda(device) = &self.0.device {
            // What was freed a moment ago is back in the driver's hands only then.
            self.0.device.synchronize().ok()?;
            let free = device.cuda_stream().context().mem_get_info().ok()?.0;
            return u64::try_from(free).ok();
        }
        memory::available()
    }

    /// Waits until the device has done everything that it was given.
    ///
    /// # Errors
    /// Whatever the device reports about it.
    pub fn synchronise(&self) -> Result<()> {
        self.0.device.synchronize()
    }

    /// A host's tensor in f32 → on the device, in the format that is computed in.
    ///
    /// # Errors
    /// If the device has no room for it.
    pub fn take(&self, tensor: &Tensor) -> Result<Tensor> {
        if self.0.kernels {
            return Ok(tensor.clone());
        }
        generic::cast(&self.take_precise(tensor)?, self.0.dtype.candle())
    }

    /// As [`Ops::take`], but still in f32.
    ///
    /// # Errors
    /// As [`Ops::take`].
    pub fn take_precise(&self, tensor: &Tensor) -> Result<Tensor> {
        if self.0.kernels {
            return Ok(tensor.clone());
        }
        tensor.contiguous()?.to_device(&self.0.device)
    }

    /// The device's f32 tensor in the format that is computed in.
    ///
    /// # Errors
    /// If the device has no room for it.
    pub fn narrowed(&self, tensor: &Tensor) -> Result<Tensor> {
        self.compute_format(tensor)
    }

    /// The device's tensor → on the host, in f32.
    ///
    /// # Errors
    /// Whatever the device reports about the work that led to it.
    pub fn give(&self, tensor: &Tensor) -> Result<Tensor> {
        if self.0.kernels {
            return Ok(tensor.clone());
        }
        generic::cast(&tensor.contiguous()?, DType::F32)?.to_device(&Device::Cpu)
    }

    /// Copies a weight to the device, in the format that weights are kept in.
    pub(super) fn upload(&self, stored: &StoredMatrix) -> Result<Tensor> {
        self.copied(stored)
            .map_err(|error| candle_core::Error::msg(format!("upload: {error}")))
    }

    fn copied(&self, stored: &StoredMatrix) -> Result<Tensor> {
        faults::pass_on(self.0.id, "upload")?;
        if self.0.residence == Residence::Whole {
            faults::pass_on(self.0.id, "upload whole")?;
        }
        if self.0.storage == ComputeDtype::F32 {
            faults::pass_on(self.0.id, "upload f32")?;
        }
        let shape = [stored.rows(), stored.columns()];
        let dtype = match stored.format() {
            Format::F32 => DType::F32,
            Format::F16 => DType::F16,
            Format::BF16 => DType::BF16,
            // Only kernels compute with it.
            Format::Int8 => DType::F32,
        };
        // Copied as it is stored and then converted by the device, which is quicker at both.
        let tensor = match stored.as_bytes() {
            None if stored.as_int8().is_some() => stored.to_tensor()?.to_device(&self.0.device)?,
            Some(bytes) => Tensor::from_raw_buffer(bytes, dtype, &shape, &self.0.device)?,
            None => Tensor::zeros(&shape, dtype, &self.0.device)?,
        };
        generic::cast(&tensor, self.0.storage.candle())
    }

    /// A weight as it is kept → in the format that is computed in.
    pub(super) fn compute_format(&self, tensor: &Tensor) -> Result<Tensor> {
        generic::cast(tensor, self.0.dtype.candle())
    }

    /// Runs an operation of the generic path; an error of it says which one that was.
    fn run(&self, name: &'static str, run: impl FnOnce() -> Result<Tensor>) -> Result<Tensor> {
        faults::operation(self.0.id, name, run)
            .map_err(|error| candle_core::Error::msg(format!("{name}: {error}")))
    }

    /// Applies a linear layer to the last axis: (…, n) → (…, m).
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn linear(&self, input: &Tensor, weight: &Weight, bias: Option<&Tensor>) -> Result<Tensor> {
        if self.0.kernels {
            weight.begin();
            let held = weight.held()?;
            let result = match held.as_int8() {
                Some(whole)
                    if self.0.numbers == CpuNumbers::Int8 && cpu::takes_int8(held.columns()) =>
                {
                    cpu::linear_int8(input, whole, bias)
                }
                _ => cpu::linear(input, held, bias),
            };
            weight.done();
            return result;
        }
        self.run("linear", || generic::linear(input, &weight.tensor()?, bias))
    }

    /// Convolves (b, c, h, w) by square kernels: (b, o, h', w').
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn conv2d(
        &self,
        input: &Tensor,
        weight: &Weight,
        bias: Option<&Tensor>,
        kernel: usize,
        geometry: ConvGeometry,
    ) -> Result<Tensor> {
        if self.0.kernels {
            weight.begin();
            let held = weight.held()?;
            let result = match bias {
                Some(bias) => cpu::conv2d(input, held, bias, kernel, geometry),
                None => {
                    let zeros = Tensor::zeros(weight.rows(), DType::F32, &Device::Cpu)?;
                    cpu::conv2d(input, held, &zeros, kernel, geometry)
                }
            };
            weight.done();
            return result;
        }
        let name = match (kernel, geometry.stride) {
            (1, 1) => "conv2d 1x1",
            (_, 1) => "conv2d 3x3",
            _ => "conv2d stride 2",
        };
        self.run(name, || {
            generic::conv2d(input, &weight.tensor()?, bias, kernel, geometry)
        })
    }

    /// Normalises groups of channels of (b, c, …), then applies `activation`. `weight` and `bias`
    /// are f32.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn group_norm(
        &self,
        input: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        groups: usize,
        eps: f64,
        activation: Option<Pointwise>,
    ) -> Result<Tensor> {
        if self.0.kernels {
            return cpu::group_norm(input, weight, bias, groups, eps, activation);
        }
        self.run("group_norm", || {
            generic::group_norm(input, weight, bias, groups, eps, activation)
        })
    }

    /// Normalises the last axis. `weight` and `bias` are f32.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn layer_norm(
        &self,
        input: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        eps: f64,
    ) -> Result<Tensor> {
        if self.0.kernels {
            return cpu::layer_norm(input, weight, bias, eps);
        }
        self.run("layer_norm", || {
            generic::layer_norm(input, weight, bias, eps)
        })
    }

    /// softmax(q kᵀ / √d) v for each head: `query` (b, s, h·d), `key` and `value` (b, t, h·d) →
    /// (b, s, h·d). `causal` hides later positions.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn attention(
        &self,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
        heads: usize,
        causal: bool,
    ) -> Result<Tensor> {
        if self.0.kernels {
            return cpu::attention(query, key, value, heads, causal);
        }
        self.run("attention", || {
            generic::attention(query, key, value, heads, causal)
        })
    }

    /// Applies an activation function to every value.
    ///
    /// # Errors
    /// If the device fails.
    pub fn activate(&self, input: &Tensor, function: Pointwise) -> Result<Tensor> {
        if self.0.kernels {
            return cpu::pointwise(input, function);
        }
        self.run("activation", || generic::pointwise(input, function))
    }

    /// The first half of the last axis times the GELU of the second.
    ///
    /// # Errors
    /// If the last axis is odd.
    pub fn geglu(&self, input: &Tensor) -> Result<Tensor> {
        if self.0.kernels {
            return cpu::geglu(input);
        }
        self.run("geglu", || generic::geglu(input))
    }

    /// Nearest-neighbour resize of (b, c, h, w) to `height` × `width`, with torch's rounding.
    ///
    /// # Errors
    /// If the tensor has another rank.
    pub fn upsample_nearest(&self, input: &Tensor, height: usize, width: usize) -> Result<Tensor> {
        if self.0.kernels {
            return cpu::upsample_nearest(input, height, width);
        }
        self.run("upsample", || {
            generic::upsample_nearest(input, height, width)
        })
    }

    /// (b, c, h, w) → (b, h·w, c).
    ///
    /// # Errors
    /// If the tensor has another rank.
    pub fn channels_last(&self, input: &Tensor) -> Result<Tensor> {
        if self.0.kernels {
            return cpu::channels_last(input);
        }
        self.run("channels last", || {
            input.flatten_from(2)?.transpose(1, 2)?.contiguous()
        })
    }

    /// (b, h·w, c) → (b, c, h, w).
    ///
    /// # Errors
    /// If the sizes do not fit.
    pub fn channels_first(&self, input: &Tensor, height: usize, width: usize) -> Result<Tensor> {
        if self.0.kernels {
            return cpu::channels_first(input, height, width);
        }
        self.run("channels last", || {
            let (batch, _, channels) = input.dims3()?;
            let turned = input.transpose(1, 2)?.contiguous()?;
            turned.reshape((batch, channels, height, width))
        })
    }

    /// Joins tensors along an axis.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn cat(&self, parts: &[&Tensor], axis: usize) -> Result<Tensor> {
        if self.0.kernels {
            return Tensor::cat(parts, axis);
        }
        self.run("cat", || Tensor::cat(parts, axis))
    }

    /// The sum of two tensors of one shape.
    ///
    /// # Errors
    /// If the shapes differ.
    pub fn add(&self, one: &Tensor, other: &Tensor) -> Result<Tensor> {
        if self.0.kernels {
            return one + other;
        }
        self.run("add", || one + other)
    }

    /// `factor · x + shift`.
    ///
    /// # Errors
    /// If the device fails.
    pub fn affine(&self, input: &Tensor, factor: f64, shift: f64) -> Result<Tensor> {
        if self.0.kernels {
            return input.affine(factor, shift);
        }
        self.run("affine", || input.affine(factor, shift))
    }

    /// The three operations that only checks run by themselves: a cast to f32 and back, a softmax
    /// of the last axis in f32, rows of the first axis by number.
    pub(crate) fn round_trip(&self, input: &Tensor) -> Result<Tensor> {
        self.run("cast", || {
            generic::cast(&generic::cast(input, DType::F32)?, self.0.dtype.candle())
        })
    }

    /// See [`Ops::round_trip`].
    pub(crate) fn softmax(&self, input: &Tensor) -> Result<Tensor> {
        self.run("softmax", || generic::softmax(input))
    }

    /// See [`Ops::round_trip`].
    pub(crate) fn select(&self, input: &Tensor, rows: &[u32]) -> Result<Tensor> {
        self.run("index select", || {
            let rows = Tensor::new(rows, &self.0.device)?;
            input.index_select(&rows, 0)
        })
    }
}

/// A GPU, or a simulated one.
fn open_cuda(at: u32) -> std::result::Result<Device, DeviceFault> {
    if let Some(count) = faults::simulated_devices() {
        faults::pass("opening")?;
        if at >= count {
            return Err(DeviceFault::from_words(
                "DriverError(CUDA_ERROR_INVALID_DEVICE, \"invalid device ordinal\")",
            ));
        }
        return Ok(Device::Cpu);
    }
    if cfg!(feature = "cuda") {
        return Ok(Device::new_cuda(at as usize)?);
    }
    Err(DeviceFault {
        kind: FaultKind::Other,
        during: String::new(),
        words: "this program was built without CUDA; the worker that `make cuda` builds has it"
            .into(),
    })
}
