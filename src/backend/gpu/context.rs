//! The context of one device: the one place that opens adapters, and the one way work is handed to them.

use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use crate::backend::{Traffic, panic_message};

use super::{DeviceError, DeviceKind, GpuInfo, GpuOptions, GraphicsApi, PowerPreference};

/// How long a driver may take to compile a shader.
const COMPILE_TIMEOUT: Duration = Duration::from_secs(300);

/// Every adapter of this computer, hardware first, then software, then OpenGL; the order is that of [`GpuOptions::index`].
///
/// Cost: asks every driver, some 50 ms.
pub fn list_gpus() -> Vec<GpuInfo> {
    adapters(wgpu::Backends::PRIMARY | wgpu::Backends::GL).1.into_iter().map(|(info, _)| info).collect()
}

fn adapters(apis: wgpu::Backends) -> (wgpu::Instance, Vec<(GpuInfo, wgpu::Adapter)>) {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = apis;
    descriptor.flags = wgpu::InstanceFlags::empty();
    // A full card refuses a buffer in words, rather than by losing the device at the next use.
    descriptor.memory_budget_thresholds.for_resource_creation = Some(95);
    let instance = wgpu::Instance::new(descriptor);
    let mut found: Vec<(GpuInfo, wgpu::Adapter)> = pollster::block_on(instance.enumerate_adapters(apis))
        .into_iter()
        .filter_map(|adapter| Some((describe(&adapter.get_info())?, adapter)))
        .collect();
    found.sort_by_key(|(info, _)| (info.api == GraphicsApi::OpenGl, rank(info.kind, PowerPreference::HighPerformance)));
    found.iter_mut().enumerate().for_each(|(index, (info, _))| info.index = index);
    (instance, found)
}

/// The adapter in our words; none for interfaces that we do not drive.
fn describe(info: &wgpu::AdapterInfo) -> Option<GpuInfo> {
    let api = match info.backend {
        wgpu::Backend::Vulkan => GraphicsApi::Vulkan,
        wgpu::Backend::Metal => GraphicsApi::Metal,
        wgpu::Backend::Dx12 => GraphicsApi::Dx12,
        wgpu::Backend::Gl => GraphicsApi::OpenGl,
        _ => return None,
    };
    let kind = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => DeviceKind::Discrete,
        wgpu::DeviceType::IntegratedGpu => DeviceKind::Integrated,
        wgpu::DeviceType::VirtualGpu => DeviceKind::Virtual,
        wgpu::DeviceType::Cpu => DeviceKind::Software,
        wgpu::DeviceType::Other => DeviceKind::Unknown,
    };
    let driver = format!("{} {}", info.driver, info.driver_info).trim().to_owned();
    Some(GpuInfo { index: 0, name: info.name.clone(), kind, api, driver })
}

/// Place in the order of preference; software is last.
fn rank(kind: DeviceKind, power: PowerPreference) -> usize {
    use DeviceKind::{Discrete, Integrated, Software, Unknown, Virtual};
    let order = match power {
        PowerPreference::HighPerformance => [Discrete, Integrated, Virtual, Unknown, Software],
        PowerPreference::LowPower => [Integrated, Discrete, Virtual, Unknown, Software],
    };
    order.iter().position(|&k| k == kind).unwrap_or(order.len())
}

/// The adapter that the options mean.
fn choose(options: &GpuOptions) -> Result<(wgpu::Instance, GpuInfo, wgpu::Adapter), DeviceError> {
    let asked = options.index.is_some() || options.name.is_some();
    // OpenGL is asked only where an answer could be used: some of its drivers talk on standard error.
    let apis = match options.api {
        None if options.index.is_some() => wgpu::Backends::PRIMARY | wgpu::Backends::GL,
        None => wgpu::Backends::PRIMARY,
        Some(GraphicsApi::OpenGl) => wgpu::Backends::PRIMARY | wgpu::Backends::GL,
        Some(_) => wgpu::Backends::PRIMARY,
    };
    let (instance, found) = adapters(apis);
    let listed = match found.len() {
        0 => "none".to_owned(),
        _ => found.iter().map(|(info, _)| info.to_string()).collect::<Vec<_>>().join(", "),
    };
    let meant = |info: &GpuInfo| {
        options.index.is_none_or(|index| info.index == index)
            && options.name.as_ref().is_none_or(|name| info.name.to_lowercase().contains(&name.to_lowercase()))
            && options.api.is_none_or(|api| info.api == api)
            && (asked || options.software || info.kind != DeviceKind::Software)
    };
    found
        .into_iter()
        .filter(|(info, _)| meant(info))
        .min_by_key(|(info, _)| rank(info.kind, options.power))
        .map(|(info, adapter)| (instance, info, adapter))
        .ok_or_else(|| DeviceError::NoAdapter { wanted: wanted(options), found: listed })
}

/// What was asked for, in words that follow "no GPU".
fn wanted(options: &GpuOptions) -> String {
    let mut words = Vec::new();
    if let Some(index) = options.index {
        words.push(format!("with index {index}"));
    }
    if let Some(name) = &options.name {
        words.push(format!("whose name holds `{name}`"));
    }
    if let Some(api) = options.api {
        words.push(format!("for {api}"));
    }
    if words.is_empty() {
        words.push(if options.software { "at all".to_owned() } else { "made of hardware".to_owned() });
    }
    words.join(" ")
}

/// What a device was found to do when it was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeviceTraits {
    /// Sums and products of two f32 come out exactly as pairs.
    pub(crate) exact_sums: bool,
    /// NaN and infinities are told by their bits.
    pub(crate) nan_by_bits: bool,
    /// Iterations after which loops of an invocation are cut short in silence.
    pub(crate) loop_limit: Option<u32>,
}

/// A device as one run uses it: the shared context, and how long this run waits for it.
pub struct Gpu {
    context: Arc<Context>,
    pub(super) timeout: Duration,
    tally: Tally,
}

/// What was handed over and not waited for yet.
#[derive(Debug)]
pub(crate) struct Fetch {
    submission: wgpu::SubmissionIndex,
    /// Shared between threads, as whoever holds it may be.
    mapped: Mutex<mpsc::Receiver<Result<(), wgpu::BufferAsyncError>>>,
    staging: wgpu::Buffer,
    bytes: u64,
}

/// Counters of [`Traffic`].
#[derive(Default)]
struct Tally {
    dispatches: AtomicU64,
    host_waits: AtomicU64,
    bytes_uploaded: AtomicU64,
    bytes_read_back: AtomicU64,
}

impl Deref for Gpu {
    type Target = Context;

    fn deref(&self) -> &Context {
        &self.context
    }
}

/// One device with its queue, shared by everything that runs on it.
pub struct Context {
    pub(crate) info: GpuInfo,
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) limits: wgpu::Limits,
    webgpu_limits: bool,
    instance: wgpu::Instance,
    adapter: wgpu::Adapter,
    /// Why it cannot be used any more.
    broken: Arc<OnceLock<DeviceError>>,
    /// An error that no scope caught and nobody has looked at yet.
    unheard: Arc<Mutex<Option<String>>>,
    burn: OnceLock<Result<burn::tensor::Device, DeviceError>>,
    /// Filled in by the room of kernels.
    pub(crate) traits: OnceLock<DeviceTraits>,
}

/// Devices that are open, for the life of the program: runs share them, burn never gives one back, and the driver of a broken one may never
/// come back from whatever broke it, not even to be closed.
///
/// Each stands under every way in which it was asked for: asking all drivers again what is there would cost each run its start.
static OPEN: Mutex<Vec<(GpuOptions, Arc<Context>)>> = Mutex::new(Vec::new());

impl Gpu {
    /// The device that the options mean: the one that is open already, unless it broke.
    ///
    /// # Errors
    /// [`DeviceError::NoAdapter`], [`DeviceError::NotOpened`].
    pub(crate) fn open(options: &GpuOptions) -> Result<Arc<Self>, DeviceError> {
        let asked = options.clone().timeout(Duration::ZERO);
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let known = open.iter().find(|(known, context)| *known == asked && context.usable().is_ok());
        let context = match known {
            Some((_, context)) => context.clone(),
            None => {
                let (instance, info, adapter) = choose(options)?;
                let same = |(_, context): &&(GpuOptions, Arc<Context>)| {
                    context.usable().is_ok()
                        && context.webgpu_limits == options.webgpu_limits
                        && context.adapter.get_info() == adapter.get_info()
                };
                let context = match open.iter().find(same) {
                    Some((_, context)) => context.clone(),
                    None => Arc::new(Context::new(options, instance, info, adapter)?),
                };
                open.push((asked, context.clone()));
                context
            }
        };
        Ok(Arc::new(Self { context, timeout: options.timeout, tally: Tally::default() }))
    }

    /// Whether both are the same device.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.context, &other.context)
    }

    /// Hands over commands and waits for them.
    ///
    /// # Errors
    /// [`DeviceError::Hung`] after the time limit, and whatever befell the device; it is given up in both cases.
    pub(crate) fn submit(&self, what: &str, commands: wgpu::CommandEncoder) -> Result<(), DeviceError> {
        self.submit_within(what, commands, self.timeout)
    }

    /// As [`submit`](Self::submit), for the first use of a pipeline: many drivers compile it only then.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub(crate) fn submit_first(&self, what: &str, commands: wgpu::CommandEncoder) -> Result<(), DeviceError> {
        self.submit_within(what, commands, self.timeout.max(COMPILE_TIMEOUT))
    }

    fn submit_within(&self, what: &str, commands: wgpu::CommandEncoder, limit: Duration) -> Result<(), DeviceError> {
        let submission = self.scoped(what, 0, |_| self.queue.submit([commands.finish()]))?;
        self.wait(what, Some(submission), limit)
    }

    pub(super) fn wait(
        &self,
        what: &str,
        submission_index: Option<wgpu::SubmissionIndex>,
        limit: Duration,
    ) -> Result<(), DeviceError> {
        self.tally.host_waits.fetch_add(1, Ordering::Relaxed);
        let waited = self.device.poll(wgpu::PollType::Wait { submission_index, timeout: Some(limit) });
        self.usable()?;
        if let Some(text) = self.take_unheard() {
            return Err(self.told(what, &text));
        }
        let failure = match waited {
            Ok(_) => return Ok(()),
            Err(wgpu::PollError::Timeout) => {
                DeviceError::Hung { adapter: self.name(), what: what.to_owned(), seconds: limit.as_secs_f64() }
            }
            Err(error) => DeviceError::Driver { adapter: self.name(), reason: format!("{what}: {error}") },
        };
        Err(self.give_up(failure))
    }

    /// Hands over commands that fill `staging`, a buffer made with `MAP_READ`, waits for them, and copies its first `bytes` bytes to the host.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub(crate) fn fetch(
        &self,
        what: &str,
        commands: wgpu::CommandEncoder,
        staging: &wgpu::Buffer,
        bytes: u64,
    ) -> Result<Vec<u8>, DeviceError> {
        self.fetch_within(what, commands, staging, bytes, self.timeout)
    }

    /// As [`fetch`](Self::fetch), for the first use of a pipeline.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub(crate) fn fetch_first(
        &self,
        what: &str,
        commands: wgpu::CommandEncoder,
        staging: &wgpu::Buffer,
        bytes: u64,
    ) -> Result<Vec<u8>, DeviceError> {
        self.fetch_within(what, commands, staging, bytes, self.timeout.max(COMPILE_TIMEOUT))
    }

    fn fetch_within(
        &self,
        what: &str,
        commands: wgpu::CommandEncoder,
        staging: &wgpu::Buffer,
        bytes: u64,
        limit: Duration,
    ) -> Result<Vec<u8>, DeviceError> {
        let fetch = self.begin_fetch(what, commands, staging, bytes)?;
        self.end_fetch_within(what, fetch, limit)
    }

    /// Hands over commands that fill `staging`, and does not wait: the host has other things to do meanwhile.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub(crate) fn begin_fetch(
        &self,
        what: &str,
        commands: wgpu::CommandEncoder,
        staging: &wgpu::Buffer,
        bytes: u64,
    ) -> Result<Fetch, DeviceError> {
        let (sender, mapped) = mpsc::channel();
        let submission = self.scoped(what, bytes, |_| {
            let submission = self.queue.submit([commands.finish()]);
            staging.slice(..bytes).map_async(wgpu::MapMode::Read, move |mapped| drop(sender.send(mapped)));
            submission
        })?;
        Ok(Fetch { submission, mapped: Mutex::new(mapped), staging: staging.clone(), bytes })
    }

    /// Waits for what [`begin_fetch`](Self::begin_fetch) handed over.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub(crate) fn end_fetch(&self, what: &str, fetch: Fetch) -> Result<Vec<u8>, DeviceError> {
        self.end_fetch_within(what, fetch, self.timeout)
    }

    fn end_fetch_within(&self, what: &str, fetch: Fetch, limit: Duration) -> Result<Vec<u8>, DeviceError> {
        let staging = fetch.staging.clone();
        let read = self.mapped(what, fetch, limit);
        // Also after an error: what is mapped, or waits for it, cannot be used again.
        self.scoped(what, 0, |_| staging.unmap()).ok();
        read
    }

    fn mapped(&self, what: &str, fetch: Fetch, limit: Duration) -> Result<Vec<u8>, DeviceError> {
        let Fetch { submission, mapped, staging, bytes } = fetch;
        self.wait(what, Some(submission), limit)?;
        let failed = |reason: String| DeviceError::Driver { adapter: self.name(), reason: format!("{what}: {reason}") };
        // The answer may come through the poll of another thread, and then a moment later.
        match mapped.into_inner().unwrap_or_else(PoisonError::into_inner).recv_timeout(self.timeout) {
            Ok(mapped) => mapped.map_err(|error| failed(error.to_string()))?,
            Err(_) => return Err(failed("its memory was never mapped".to_owned())),
        }
        self.usable()?;
        let copied = staging.get_mapped_range(..bytes).map(|view| view.to_vec()).map_err(|e| failed(e.to_string()))?;
        self.tally.bytes_read_back.fetch_add(bytes, Ordering::Relaxed);
        Ok(copied)
    }

    /// Writes to a buffer of the device, before whatever is submitted next.
    ///
    /// # Errors
    /// What the device says to it.
    pub(crate) fn upload(&self, buffer: &wgpu::Buffer, offset: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        self.tally.bytes_uploaded.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.scoped("an upload", bytes.len() as u64, |_| self.queue.write_buffer(buffer, offset, bytes))
    }

    /// Counts dispatches that were recorded.
    pub(crate) fn count_dispatches(&self, n: usize) {
        self.tally.dispatches.fetch_add(n as u64, Ordering::Relaxed);
    }

    /// What went to and fro so far.
    pub(crate) fn traffic(&self) -> Traffic {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Traffic {
            dispatches: value(&self.tally.dispatches),
            host_waits: value(&self.tally.host_waits),
            bytes_uploaded: value(&self.tally.bytes_uploaded),
            bytes_read_back: value(&self.tally.bytes_read_back),
        }
    }
}

impl Context {
    fn new(
        options: &GpuOptions,
        instance: wgpu::Instance,
        info: GpuInfo,
        adapter: wgpu::Adapter,
    ) -> Result<Self, DeviceError> {
        let name = info.to_string();
        let refused = |reason: String| DeviceError::NotOpened { adapter: name.clone(), reason };
        if !adapter.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS) {
            return Err(refused("it has no compute shaders".to_owned()));
        }
        let limits = if options.webgpu_limits { wgpu::Limits::default() } else { adapter.limits() };
        // burn takes for granted what the adapter has.
        let unwanted = wgpu::Features::MAPPABLE_PRIMARY_BUFFERS | wgpu::Features::all_experimental_mask();
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("livepoint"),
            required_features: if options.webgpu_limits {
                wgpu::Features::empty()
            } else {
                adapter.features() - unwanted
            },
            required_limits: limits.clone(),
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        };
        let (device, queue) =
            pollster::block_on(adapter.request_device(&descriptor)).map_err(|error| refused(error.to_string()))?;
        let context = Self {
            info,
            device,
            queue,
            limits,
            webgpu_limits: options.webgpu_limits,
            instance,
            adapter,
            broken: Arc::default(),
            unheard: Arc::default(),
            burn: OnceLock::new(),
            traits: OnceLock::new(),
        };
        context.watch();
        Ok(context)
    }

    /// Hears of the loss of the device. There is one listener for each kind of news, so this must be the last to ask for them.
    fn watch(&self) {
        let (broken, name) = (self.broken.clone(), self.name());
        self.device.set_device_lost_callback(move |reason, message| {
            let reason = format!("{reason:?}: {message}");
            // The first reason is the true one.
            let _ = broken.set(DeviceError::Lost { adapter: name.clone(), reason });
        });
        let unheard = self.unheard.clone();
        self.device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            // The first reason is the true one here too.
            unheard.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.to_string());
        }));
    }

    /// What the device said outside all scopes since the last look, as it does of burn's work. Whoever trusts a value must look first: a kernel
    /// that failed gives zeros.
    pub(super) fn take_unheard(&self) -> Option<String> {
        self.unheard.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Its name in messages.
    pub(crate) fn name(&self) -> String {
        self.info.to_string()
    }

    /// Whether work may be handed to it.
    ///
    /// # Errors
    /// What broke it.
    pub(crate) fn usable(&self) -> Result<(), DeviceError> {
        self.broken.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// burn's device over this one: the same queue, the same memory. The first call registers it.
    ///
    /// # Errors
    /// [`DeviceError::Driver`] with burn's own words, or for a device that has less than its adapter.
    pub(crate) fn burn(&self) -> Result<burn::tensor::Device, DeviceError> {
        let register = || {
            if self.webgpu_limits {
                // It would fail in mid-run, over a kernel with features that the device was not given.
                let reason = "tensors run on burn, which takes for granted all that the adapter has; leave GpuOptions::webgpu_limits out for them";
                return Err(DeviceError::Driver { adapter: self.name(), reason: reason.to_owned() });
            }
            let setup = burn::tensor::wgpu::WgpuSetup {
                instance: self.instance.clone(),
                adapter: self.adapter.clone(),
                device: self.device.clone(),
                queue: self.queue.clone(),
                backend: self.adapter.get_info().backend,
            };
            let registered =
                catch_unwind(AssertUnwindSafe(|| burn::tensor::Device::wgpu_options().setup(setup).init()));
            // It put listeners of its own in the place of ours.
            self.watch();
            let refused = |reason: String| DeviceError::Driver { adapter: self.name(), reason };
            registered
                .map_err(|payload| refused(panic_message(payload.as_ref())))?
                .map_err(|error| refused(error.to_string()))
        };
        self.burn.get_or_init(register).clone()
    }

    /// Does something with the device and hears what it has to say about it: without the scopes an error would be a panic, or lost.
    ///
    /// # Errors
    /// [`DeviceError`]; `what` and `bytes` go into the message when there is no room.
    pub(crate) fn scoped<T>(
        &self,
        what: &str,
        bytes: u64,
        task: impl FnOnce(&wgpu::Device) -> T,
    ) -> Result<T, DeviceError> {
        self.usable()?;
        let scopes = [wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::Internal, wgpu::ErrorFilter::OutOfMemory]
            .map(|filter| self.device.push_error_scope(filter));
        let done = task(&self.device);
        // Scopes close from the innermost.
        let errors: Vec<_> = scopes.into_iter().rev().filter_map(|scope| pollster::block_on(scope.pop())).collect();
        self.usable()?;
        match errors.into_iter().next() {
            None => Ok(done),
            Some(wgpu::Error::OutOfMemory { .. }) => {
                Err(DeviceError::OutOfMemory { adapter: self.name(), what: what.to_owned(), bytes })
            }
            Some(error) => Err(DeviceError::Driver { adapter: self.name(), reason: format!("{what}: {error}") }),
        }
    }

    /// A buffer of `bytes` bytes (at least 4) that fits the limits.
    ///
    /// # Errors
    /// [`DeviceError::Limit`], [`DeviceError::OutOfMemory`].
    pub(crate) fn buffer(
        &self,
        what: &str,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer, DeviceError> {
        let limit = match usage.contains(wgpu::BufferUsages::STORAGE) {
            true => self.limits.max_buffer_size.min(self.limits.max_storage_buffer_binding_size),
            false => self.limits.max_buffer_size,
        };
        let size = bytes.max(4).next_multiple_of(4);
        if size > limit {
            return Err(DeviceError::Limit {
                adapter: self.name(),
                what: format!("{what}, in bytes,"),
                needed: size,
                limit,
                advice: "use less data or smaller batches",
            });
        }
        let descriptor = wgpu::BufferDescriptor { label: Some(what), size, usage, mapped_at_creation: false };
        self.scoped(what, size, |device| device.create_buffer(&descriptor))
    }

    /// Marks the device as broken; returns the first reason there was.
    pub(crate) fn give_up(&self, failure: DeviceError) -> DeviceError {
        self.broken.get_or_init(|| failure).clone()
    }

    /// Destroys the device as a driver reset would; for tests of what happens then.
    #[cfg(feature = "testing")]
    pub(crate) fn lose(&self) {
        self.device.destroy();
        let _ = self.device.poll(wgpu::PollType::Poll);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preference_orders_kinds_and_keeps_software_last() {
        use DeviceKind::{Discrete, Integrated, Software, Unknown};
        assert!(rank(Discrete, PowerPreference::HighPerformance) < rank(Integrated, PowerPreference::HighPerformance));
        assert!(rank(Integrated, PowerPreference::LowPower) < rank(Discrete, PowerPreference::LowPower));
        assert!(rank(Unknown, PowerPreference::LowPower) < rank(Software, PowerPreference::LowPower));
    }

    #[test]
    fn an_adapter_that_is_not_there_is_refused_in_words() {
        let error = Gpu::open(&GpuOptions::default().name("no such card")).err().unwrap();
        let text = error.to_string();
        assert!(matches!(error, DeviceError::NoAdapter { .. }), "{error:?}");
        assert!(text.contains("whose name holds `no such card`") && text.contains("Backend::cpu"), "{text}");
    }
}
