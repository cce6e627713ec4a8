//! Whether a device computes rightly: every kind of operation that SDXL uses, run on the device
//! and compared with plain scalar arithmetic in f64.
