//! Building a component from its tensors, with an account of each.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use candle_core::{DType, Device, Tensor};

use super::{Residency, StoredMatrix, StoredTensor, WeightFiles};
use crate::EngineError;
use crate::cpu_mode::CpuNumbers;
use crate::nn::{AdapterSlot, LayerShape, LayerTable, Ops, Weight};

/// How many names an error lists before it only counts.
const NAMED: usize = 5;

/// A place in a component's tree of tensors, from which layers ask for theirs by name and shape.
#[derive(Clone)]
pub struct Weights {
    prefix: String,
    /// What computes with the tensors.
    ops: Ops,
    shared: Rc<Shared>,
}

struct Shared {
    files: Rc<WeightFiles>,
    residency: Residency,
    /// Only note what is asked for; hand out views of a single zero.
    checking: bool,
    account: RefCell<Account>,
    layers: RefCell<LayerTable>,
}

#[derive(Default)]
struct Account {
    used: BTreeSet<String>,
    asked: BTreeMap<String, Vec<usize>>,
    missing: Vec<String>,
    misshapen: Vec<String>,
}

/// Builds a component with `build`, after a pass over the headers that accounts for every tensor:
/// each one asked for is there in the right shape, and each one there was asked for.
///
/// `root` is the prefix under which the component's tensors lie; `ops` is what computes with them.
///
/// # Errors
/// [`EngineError::Model`] naming the first few missing, misshapen or unused tensors and counting
/// the rest; or whatever `build` reports.
pub fn load_component<T>(
    files: WeightFiles,
    root: &str,
    ops: &Ops,
    build: impl Fn(&Weights) -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    load_adaptable(files, root, ops, build).map(|(component, _)| component)
}

/// As [`load_component`], with a table of the layers that adapters can be put on.
///
/// # Errors
/// As [`load_component`].
pub fn load_adaptable<T>(
    files: WeightFiles,
    root: &str,
    ops: &Ops,
    build: impl Fn(&Weights) -> Result<T, EngineError>,
) -> Result<(T, LayerTable), EngineError> {
    let files = Rc::new(files);
    let open = |checking| Weights::open(&files, root, ops, checking);
    let check = open(true);
    build(&check)?;
    check.settle()?;
    let weights = open(false);
    let component = build(&weights)?;
    let layers = weights.shared.layers.take();
    Ok((component, layers))
}

/// Names and shapes of all tensors that `build` asks for, without any file.
///
/// # Errors
/// Whatever `build` reports.
pub fn survey<T>(
    build: impl Fn(&Weights) -> Result<T, EngineError>,
) -> Result<BTreeMap<String, Vec<usize>>, EngineError> {
    let files = Rc::new(WeightFiles::none());
    let weights = Weights::open(&files, "", &Ops::kernels(), true);
    build(&weights)?;
    let account = weights.shared.account.take();
    Ok(account.asked)
}

impl Weights {
    fn open(files: &Rc<WeightFiles>, root: &str, ops: &Ops, checking: bool) -> Self {
        Self {
            prefix: root.to_string(),
            ops: ops.clone(),
            shared: Rc::new(Shared {
                files: Rc::clone(files),
                residency: files.residency(ops),
                checking,
                account: RefCell::default(),
                layers: RefCell::default(),
            }),
        }
    }

    /// The place `name` below this one.
    pub fn at(&self, name: impl std::fmt::Display) -> Self {
        let prefix = if self.prefix.is_empty() {
            name.to_string()
        } else {
            format!("{}.{name}", self.prefix)
        };
        Self {
            prefix,
            ops: self.ops.clone(),
            shared: Rc::clone(&self.shared),
        }
    }

    /// The same place, for layers whose numbers are never made smaller than they are stored.
    pub fn in_full(&self) -> Self {
        Self {
            ops: self.ops.with_weights(CpuNumbers::Full, self.ops.streams()),
            ..self.clone()
        }
    }

    /// The tensor `name` below this place, in f32, which must have `shape`.
    ///
    /// # Errors
    /// [`EngineError::Model`] if it cannot be read. While checking, a missing or misshapen tensor
    /// is noted and stands in as zeros without memory of its own.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor, EngineError> {
        self.tensor_named(&[name], shape)
    }

    /// As [`Weights::tensor`], under the first of several names that is there: old files call some
    /// tensors otherwise.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn tensor_named(&self, names: &[&str], shape: &[usize]) -> Result<Tensor, EngineError> {
        match self.find(names, shape) {
            Some((name, stored)) => Ok(self.shared.files.read(&name, stored)?.reshape(shape)?),
            None => Ok(Tensor::zeros(1, DType::F32, &Device::Cpu)?.broadcast_as(shape)?),
        }
    }

    /// The tensor `name` below this place, left where it lies, which must have `shape`. The first
    /// axis gives the matrix' rows, all others its columns.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn matrix(&self, name: &str, shape: &[usize]) -> Result<StoredMatrix, EngineError> {
        self.matrix_named(&[name], shape)
    }

    /// As [`Weights::matrix`], under the first of several names that is there.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn matrix_named(
        &self,
        names: &[&str],
        shape: &[usize],
    ) -> Result<StoredMatrix, EngineError> {
        match self.find(names, shape) {
            Some((name, stored)) => self.shared.files.matrix(&name, stored),
            None => Ok(StoredMatrix::zeros(
                shape.first().copied().unwrap_or(1),
                shape.iter().skip(1).product(),
            )),
        }
    }

    /// What computes with the tensors.
    pub fn ops(&self) -> &Ops {
        &self.ops
    }

    /// As [`Weights::matrix`], ready to be computed with.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn weight(&self, name: &str, shape: &[usize]) -> Result<Weight, EngineError> {
        self.weight_named(&[name], shape)
    }

    /// As [`Weights::weight`], under the first of several names that is there.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn weight_named(&self, names: &[&str], shape: &[usize]) -> Result<Weight, EngineError> {
        let weight = Weight::new(self.matrix_named(names, shape)?, &self.ops);
        self.shared.residency.add_weight(&weight);
        Ok(weight)
    }

    /// As [`Weights::tensor`], on the device and in the number format that is computed in: a bias.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn parameter(&self, name: &str, shape: &[usize]) -> Result<Tensor, EngineError> {
        self.parameter_named(&[name], shape)
    }

    /// As [`Weights::parameter`], under the first of several names that is there.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn parameter_named(&self, names: &[&str], shape: &[usize]) -> Result<Tensor, EngineError> {
        let tensor = self.tensor_named(names, shape)?;
        if self.shared.checking {
            return Ok(tensor);
        }
        Ok(self.ops.take(&tensor)?)
    }

    /// As [`Weights::tensor`], on the device, in f32 whatever is computed in: for statistics.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn precise(&self, name: &str, shape: &[usize]) -> Result<Tensor, EngineError> {
        let tensor = self.tensor(name, shape)?;
        if self.shared.checking {
            return Ok(tensor);
        }
        Ok(self.ops.take_precise(&tensor)?)
    }

    /// Looks up the first name that is there, and notes what was asked for. `None` calls for a
    /// stand-in: the tensor is missing or misshapen, or headers are only being checked.
    fn find(&self, names: &[&str], shape: &[usize]) -> Option<(String, &StoredTensor)> {
        let mut account = self.shared.account.borrow_mut();
        let full_name = |name: &str| {
            if self.prefix.is_empty() {
                name.to_string()
            } else {
                format!("{}.{name}", self.prefix)
            }
        };
        let files = &self.shared.files;
        let found = names.iter().find_map(|name| {
            let name = full_name(name);
            let stored = files.tensors().get(&name)?;
            Some((name, stored))
        });
        account.asked.insert(full_name(names[0]), shape.to_vec());
        let Some((name, stored)) = found else {
            account.missing.push(full_name(names[0]));
            return None;
        };
        account.used.insert(name.clone());
        if stored.shape != shape && !is_linear_as_convolution(&stored.shape, shape) {
            account.misshapen.push(format!(
                "{name} has {:?} where {shape:?} is needed",
                stored.shape
            ));
            return None;
        }
        (!self.shared.checking).then_some((name, stored))
    }

    /// A slot for adapters on the layer at this place.
    pub fn adapter_slot(&self, shape: LayerShape) -> AdapterSlot {
        let slot = AdapterSlot::new();
        let layer = slot.layer(shape);
        let mut layers = self.shared.layers.borrow_mut();
        layers.insert(self.prefix.clone(), layer);
        slot
    }

    /// Where all of the component's tensors lie.
    pub fn residency(&self) -> Residency {
        self.shared.residency.clone()
    }

    /// Whether nothing is read yet: the pass over the headers.
    pub fn is_checking(&self) -> bool {
        self.shared.checking
    }

    /// An error about the component's `config.json`.
    pub fn config_error(&self, message: impl Into<String>) -> EngineError {
        EngineError::model(self.shared.files.folder().join("config.json"), message)
    }

    /// Reports everything that does not fit, in one line.
    fn settle(&self) -> Result<(), EngineError> {
        let account = self.shared.account.borrow();
        let files = &self.shared.files;
        let unused: Vec<String> = files
            .tensors()
            .keys()
            .filter(|name| !account.used.contains(*name) && !is_harmless(name))
            .cloned()
            .collect();
        let mut faults = Vec::new();
        if !account.missing.is_empty() {
            faults.push(format!(
                "{} missing: {}",
                count(account.missing.len(), "tensor is", "tensors are"),
                listed(&account.missing)
            ));
        }
        if !account.misshapen.is_empty() {
            faults.push(format!(
                "{} the wrong shape: {}",
                count(account.misshapen.len(), "tensor has", "tensors have"),
                listed(&account.misshapen)
            ));
        }
        if !unused.is_empty() {
            faults.push(format!(
                "{} not used: {}",
                count(unused.len(), "tensor is", "tensors are"),
                listed(&unused)
            ));
        }
        if faults.is_empty() {
            return Ok(());
        }
        Err(EngineError::model(
            files.place(),
            format!(
                "does not hold the model that {} describes: {}",
                files.described_by(),
                faults.join("; ")
            ),
        ))
    }
}

/// Buffers that older versions of transformers stored beside the weights.
fn is_harmless(name: &str) -> bool {
    name.ends_with("position_ids")
}

/// Old VAE files store the linear layers of their attention as 1×1 convolutions.
fn is_linear_as_convolution(stored: &[usize], asked: &[usize]) -> bool {
    stored.len() == 4 && asked.len() == 2 && stored[..2] == *asked && stored[2..] == [1, 1]
}

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

fn listed(names: &[String]) -> String {
    let mut text = names[..names.len().min(NAMED)]
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > NAMED {
        text.push_str(&format!(" and {} more", names.len() - NAMED));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use safetensors::tensor::{Dtype, TensorView, serialize};

    use super::*;

    /// A weight file of f32 tensors, all values 1.
    fn file(tensors: &[(&str, &[usize])]) -> Vec<u8> {
        let data: Vec<Vec<u8>> = tensors
            .iter()
            .map(|(_, shape)| 1f32.to_le_bytes().repeat(shape.iter().product()))
            .collect();
        let views = tensors.iter().zip(&data).map(|((name, shape), data)| {
            let view = TensorView::new(Dtype::F32, shape.to_vec(), data).expect("sizes agree");
            (name.to_string(), view)
        });
        serialize(views, None).expect("valid tensors")
    }

    fn load(folder: &Path) -> Result<Tensor, EngineError> {
        let files = WeightFiles::open(folder, "model")?;
        load_component(files, "net", &Ops::kernels(), |weights| {
            weights.at("a").tensor("weight", &[2, 3])?;
            weights.tensor("b", &[4])
        })
    }

    fn outcome(bytes: &[u8]) -> Result<Tensor, String> {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("model.safetensors"), bytes).expect("written");
        load(folder.path()).map_err(|error| error.to_string())
    }

    const RIGHT: &[(&str, &[usize])] = &[("net.a.weight", &[2, 3]), ("net.b", &[4])];

    #[test]
    fn every_tensor_is_accounted_for() {
        let loaded = outcome(&file(RIGHT)).expect("all there");
        assert_eq!(loaded.to_vec1::<f32>().expect("f32"), [1.0; 4]);

        let missing = outcome(&file(&RIGHT[..1])).expect_err("b is missing");
        assert!(missing.contains("1 tensor is missing: net.b"), "{missing}");

        let mut more = RIGHT.to_vec();
        more.extend([
            ("net.c", &[1][..]),
            ("lora.up", &[1]),
            ("net.position_ids", &[1]),
        ]);
        let unused = outcome(&file(&more)).expect_err("two are unused");
        assert!(
            unused.contains("2 tensors are not used: lora.up, net.c"),
            "{unused}"
        );

        let wrong = outcome(&file(&[("net.a.weight", &[3, 2]), ("net.b", &[4])]))
            .expect_err("a is transposed");
        let expected = "net.a.weight has [3, 2] where [2, 3] is needed";
        assert!(wrong.contains(expected), "{wrong}");

        let renamed = outcome(&file(&[RIGHT[0], ("net.bias", &[4])])).expect_err("b is renamed");
        assert!(renamed.contains("missing: net.b;"), "{renamed}");
        assert!(renamed.contains("not used: net.bias"), "{renamed}");
    }

    #[test]
    fn a_file_cut_off_anywhere_is_an_error() {
        let bytes = file(RIGHT);
        for length in 0..bytes.len() {
            let error = outcome(&bytes[..length]).expect_err("cut off");
            assert!(error.contains("model.safetensors"), "{length}: {error}");
            assert!(!error.contains('\n'), "{length}: {error}");
        }
        let mut garbage = bytes;
        garbage[..16].fill(0xff);
        assert!(outcome(&garbage).is_err());
    }

    #[test]
    fn pickles_and_foreign_paths_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        let error = load(path).expect_err("empty").to_string();
        assert!(error.contains("model.safetensors"), "{error}");

        std::fs::write(path.join("model.bin"), b"pickle").expect("written");
        let error = load(path).expect_err("a pickle").to_string();
        assert!(
            error.contains("model.bin") && error.contains("pickle"),
            "{error}"
        );

        let index = path.join("model.safetensors.index.json");
        let map = r#"{"weight_map": {"net.b": "../../secret"}}"#;
        std::fs::write(&index, map).expect("written");
        let error = load(path).expect_err("outside").to_string();
        assert!(error.contains("../../secret"), "{error}");
    }

    #[test]
    fn shards_are_joined() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        for (name, tensors) in [("one", &RIGHT[..1]), ("two", &RIGHT[1..])] {
            let file_name = path.join(format!("{name}.safetensors"));
            std::fs::write(file_name, file(tensors)).expect("written");
        }
        let map =
            r#"{"weight_map": {"net.a.weight": "one.safetensors", "net.b": "two.safetensors"}}"#;
        std::fs::write(path.join("model.safetensors.index.json"), map).expect("written");
        load(path).expect("both shards are there");
        std::fs::remove_file(path.join("two.safetensors")).expect("removed");
        let error = load(path).expect_err("one is gone").to_string();
        assert!(error.contains("two.safetensors"), "{error}");
    }
}
