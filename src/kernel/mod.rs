//! Device kernels: WGSL composed and checked without a device, then pipelines, launches and reading back.

mod batch;
mod evaluate;
mod layout;
mod library;
mod source;
mod theta;
mod transform;

pub(crate) mod generated;

pub(crate) use evaluate::{BufferData, EvaluateKernel, EvaluateOptions, KernelError};
pub(crate) use source::{ShaderError, Signature, is_name};
pub(crate) use theta::ThetaKernel;
pub(crate) use transform::{Column, TransformPlan, literal, pair, tail_pair};
