//! Device kernels: WGSL composed and checked without a device, then pipelines, launches and reading back.

mod batch;
mod bounds;
mod evaluate;
pub mod generated;
mod layout;
pub mod library;
mod network;
mod self_test;
mod source;
mod theta;
mod train;
mod transform;

#[cfg(feature = "testing")]
pub(crate) use bounds::bounds_wgsl;
pub(crate) use bounds::{
    Among, BoundKernels, BoundPlan, COUNTERS, ClusterPlan, DeviceBound, EllipsoidPlan, EmulatorPlan, MAX_CELLS, NONE,
    Segment, Weights, from_position, to_position,
};
pub(crate) use evaluate::{BufferData, EvaluateKernel, EvaluateOptions, KernelError};
#[cfg(feature = "testing")]
pub(crate) use network::NetworkLayout;
#[cfg(feature = "testing")]
pub(crate) use self_test::{self_test, self_test_wgsl};
pub(crate) use source::{ShaderError, Signature, is_name};
pub(crate) use theta::ThetaKernel;
#[cfg(feature = "testing")]
pub(crate) use train::train_wgsl_texts;
pub(crate) use train::{TrainKernel, TrainOptions, TrainSchedule};
pub(crate) use transform::{Column, TransformPlan, literal, pair, steps_across, tail_pair};
