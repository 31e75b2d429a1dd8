//! `pre-oom-killer why`: what led to a container's last incident, what was done, and what to change.
//!
//! | file | what is in it |
//! |---|---|
//! | [`case`] | what the agents know of what the user names |
//! | [`text`] | the latest incident for people |
//! | `now` | where no incident is known: what is guarded |
//! | [`curve`] | its past, drawn |
//! | `grew` | what its memory consisted of |
//! | [`advice`] | what to change |
//! | [`json`] | all of it for programs |

pub mod advice;
pub mod case;
pub mod curve;
mod grew;
pub mod json;
mod now;
pub mod text;

use clap::{Args, ValueEnum};

use super::agents::named::Named;
use super::agents::query::ClusterArgs;

/// The flags of `why`.
#[derive(Clone, Debug, Args)]
pub struct WhyArgs {
    /// A pod, also one that is gone, or a workload: web-1, pod/web-1, deploy/web, sts/db, job/train
    #[arg(value_name = "POD|KIND/NAME")]
    pub named: Named,
    /// Incidents of this container
    #[arg(short, long, value_name = "NAME")]
    pub container: Option<String>,
    /// List the earlier incidents, too
    #[arg(long)]
    pub all: bool,
    /// The form of the output
    #[arg(short, long, value_enum)]
    pub output: Option<WhyFormat>,
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// The form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WhyFormat {
    /// One object, for programs.
    Json,
}
