//! `pre-oom-killer check`: what will happen to the pods of a manifest, and what is wrong or risky about it. Offline.
//!
//! | file | what is in it |
//! |---|---|
//! | [`tree`] | a document whose values know their lines |
//! | [`input`] | files, directories, stdin → documents |
//! | [`objects`] | documents → objects and pod templates |
//! | [`finding`] | what is found, as plain data; all codes |
//! | [`scale`], [`budget`], [`namespaces`], [`limit_range`] | objects that have a say: autoscalers, disruption budgets, namespaces that are guarded as a whole, default limits |
//! | [`surroundings`] | all of these that are in the input |
//! | `template_check` | one template, and what was found about it so far; the next five add to that |
//! | `opt_in` | whether it has opted in, and all ways to have nearly done so |
//! | `target`, `memory`, `prestop` | what becomes of each container; what it may use; how long its hook takes |
//! | `remedies` | which remedies are possible for a container, and up to which growth each is in time |
//! | `consequences` | what an eviction means for budgets, other replicas and the owner |
//! | [`assess`] | all of that for one template; [`crate::pods::guard`] reads the annotations |
//! | `unknown_kind` | objects of kinds that are not read |
//! | [`report`], [`print`](mod@print) | all of it, as text and as JSON |

pub mod assess;
pub mod budget;
mod consequences;
pub mod finding;
pub mod input;
pub mod limit_range;
mod memory;
pub mod namespaces;
pub mod objects;
mod opt_in;
mod prestop;
pub mod print;
mod remedies;
pub mod report;
pub mod scale;
pub mod surroundings;
mod target;
mod template_check;
pub mod tree;
mod unknown_kind;

use clap::{Args, ValueEnum};

/// The flags of `check`.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// Files and directories with manifests (YAML or JSON); - is stdin
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true, num_args = 1..)]
    pub filename: Vec<String>,
    /// Read the directories in directories, too
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// The form of the output
    #[arg(short, long, value_enum, default_value_t = CheckFormat::Text)]
    pub output: CheckFormat,
}

/// How the findings are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CheckFormat {
    /// For people.
    Text,
    /// One object, for programs.
    Json,
}
