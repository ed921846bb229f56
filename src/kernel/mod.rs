//! Device kernels: WGSL composed and checked without a device, then pipelines, launches and reading back.

mod batch;
mod evaluate;
pub mod generated;
mod layout;
pub mod library;
// Until bounds are trained on a device, tests alone call these two.
#[cfg_attr(not(feature = "testing"), allow(dead_code))]
mod network;
mod self_test;
mod source;
mod theta;
#[cfg_attr(not(feature = "testing"), allow(dead_code))]
mod train;
mod transform;

pub(crate) use evaluate::{BufferData, EvaluateKernel, EvaluateOptions, KernelError};
#[cfg(feature = "testing")]
pub(crate) use network::NetworkLayout;
#[cfg(feature = "testing")]
pub(crate) use self_test::{self_test, self_test_wgsl};
pub(crate) use source::{ShaderError, Signature, is_name};
pub(crate) use theta::ThetaKernel;
#[cfg(feature = "testing")]
pub(crate) use train::{Spent, TrainKernel, TrainOptions, TrainSchedule, train_wgsl_texts};
pub(crate) use transform::{Column, TransformPlan, literal, pair, steps_across, tail_pair};
