//! burn's tensors over the shared device: made for our own passes to write, and read back with every failure told.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::backend::wgpu::{CubeTensor, Wgpu};
use burn::cubecl::wgpu::{AutoCompiler, WgpuServer};
use burn::tensor::{DType, Tensor};

use super::{DeviceError, Gpu};
use crate::backend::panic_message;

/// Words by which burn, which has no type for it, says that there was no room.
const NO_ROOM: [&str; 4] =
    ["out of device memory", "out of memory", "can't allocate buffer", "memory location was never initialized"];

impl Gpu {
    /// A tensor of f32 in burn's memory that `write` fills by submitting a pass over the resource that it is given. Nothing is waited for: what
    /// burn does with the tensor comes later in the same queue.
    ///
    /// The resource may share its buffer with other tensors, so a pass must not bind it together with any of them.
    ///
    /// # Errors
    /// No room, a lost device, and what `write` says.
    pub(crate) fn tensor(
        &self,
        shape: [usize; 2],
        write: impl FnOnce(wgpu::BindingResource) -> Result<(), DeviceError>,
    ) -> Result<Tensor<2>, DeviceError> {
        let device = self.burn()?;
        let what = "the parameters of a batch";
        let (tensor, resource): (CubeTensor, _) = self.guarded(what, || {
            let tensor = Tensor::<2>::empty(shape, (&device, DType::F32));
            let tensor = tensor.try_into_primitive::<Wgpu>().map_err(|error| format!("{error:?}"))?;
            let resource = tensor.client.get_resource::<WgpuServer<AutoCompiler>>(tensor.handle.clone());
            let resource = resource.map_err(|error| error.to_string())?;
            // What burn still holds back may use the same memory, and must come before our pass.
            tensor.client.flush().map_err(|error| error.to_string())?;
            Ok((tensor, resource))
        })?;
        write(resource.resource().as_wgpu_bind_resource())?;
        Ok(Tensor::from_primitive::<Wgpu>(tensor))
    }

    /// Hands over what burn holds back on this thread and waits until all of it is done: the bounded wait that burn's own reads have not.
    ///
    /// # Errors
    /// [`DeviceError::Hung`], and whatever befell the device.
    pub(crate) fn finish(&self, what: &str) -> Result<(), DeviceError> {
        let device = self.burn()?;
        self.guarded(what, || device.flush().map_err(|error| error.to_string()))?;
        self.wait(what, None, self.timeout)
    }

    /// The values of a tensor of any float type, row after row.
    ///
    /// # Errors
    /// Whatever befell the device or the operations that the values come from.
    pub(crate) fn values<const D: usize>(&self, what: &str, tensor: Tensor<D>) -> Result<Vec<f64>, DeviceError> {
        let device = self.burn()?;
        self.guarded(what, || {
            let data = tensor.try_into_data().map_err(|error| error.to_string())?;
            let values = data.iter::<f64>().collect();
            // A read from a lost device succeeds, with garbage.
            device.sync().map_err(|error| error.to_string())?;
            Ok(values)
        })
    }

    /// Runs a task of burn's, which panics and gives texts where we want a [`DeviceError`].
    fn guarded<T>(&self, what: &str, task: impl FnOnce() -> Result<T, String>) -> Result<T, DeviceError> {
        self.usable()?;
        let outcome =
            catch_unwind(AssertUnwindSafe(task)).unwrap_or_else(|payload| Err(panic_message(payload.as_ref())));
        self.usable()?;
        // What the device said is the cause of what burn says.
        match (self.take_unheard(), outcome) {
            (Some(text), _) | (None, Err(text)) => Err(self.told(what, &text)),
            (None, Ok(done)) => Ok(done),
        }
    }

    /// The error that a text means.
    pub(super) fn told(&self, what: &str, text: &str) -> DeviceError {
        self.no_room(what, text)
            .unwrap_or(DeviceError::Driver { adapter: self.name(), reason: format!("{what}: {text}") })
    }

    /// The error that a text of burn's means if it is about a lack of room.
    pub(crate) fn no_room(&self, what: &str, text: &str) -> Option<DeviceError> {
        let lower = text.to_lowercase();
        let words = NO_ROOM.iter().find_map(|words| lower.find(words).map(|at| &lower[at..]))?;
        // The first number behind the words, where there is one, is the size that was asked for.
        let line = words.lines().next().unwrap_or_default();
        let digits = line.trim_start_matches(|c: char| !c.is_ascii_digit());
        let digits = &digits[..digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len())];
        Some(DeviceError::OutOfMemory {
            adapter: self.name(),
            what: what.to_owned(),
            bytes: digits.parse().unwrap_or(0),
        })
    }
}
