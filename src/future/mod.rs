//! Futures made of tasks.

#![forbid(unsafe_code)]

mod local_group;
mod task_group;

pub use local_group::LocalGroup;
pub use task_group::{ChildError, GroupError, GroupHandle, Policy, ScopeOutput, StartError, TaskGroup, TaskStatus};
