//! `pre-oom-killer check`: what will happen to the pods of a manifest, and what is wrong or risky about it. Offline.
//!
//! | file | what is in it |
//! |---|---|
//! | [`input`] | files, directories, stdin → documents |
//! | [`tree`] | a document whose values know their lines |
//! | [`objects`] | documents → objects, pod templates, disruption budgets |
//! | [`scale`] | how many pods there are of a template: `replicas`, autoscalers |
//! | [`rules`] | what will happen, and what is wrong; annotations are read by [`crate::pods::guard`] |
//! | `opt_in`, `target`, `prestop`, [`company`] | … with the label and the keys; with each container; before it ends; for budgets, replicas and owner |
//! | [`namespaces`] | namespaces that are guarded as a whole |
//! | `stranger` | objects that are not looked into |
//! | [`print`] | as text and JSON |

pub mod company;
pub mod input;
pub mod namespaces;
pub mod objects;
mod opt_in;
mod prestop;
pub mod print;
pub mod rules;
pub mod scale;
mod stranger;
mod target;
pub mod tree;

use std::io::Read;

use clap::{Args, ValueEnum};

use company::Company;
use input::{Input, Unreadable};
use namespaces::Space;
use objects::{Object, objects};
use rules::{Finding, Judgement, Level, Outcome, judge};
use stranger::stranger;

/// The flags of `check`.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// Files and directories with manifests (YAML or JSON); - is stdin
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true, num_args = 1..)]
    pub filename: Vec<String>,
    /// Look into the directories in directories, too
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// The form of the output
    #[arg(short, long, value_enum, default_value_t = Form::Text)]
    pub output: Form,
}

/// How the findings are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people.
    Text,
    /// One object, for programs.
    Json,
}

/// One pod template that has something to do with us, or an object that may have one.
#[derive(Debug)]
pub struct Checked {
    /// The file as it was named.
    pub file: String,
    /// Which document of it, from 1.
    pub document: usize,
    /// Where the template's metadata is; of an object that is not looked into, where it begins.
    pub line: u64,
    /// `kind`.
    pub kind: String,
    /// `metadata.namespace`, where it is written.
    pub namespace: Option<String>,
    /// `metadata.name`.
    pub name: String,
    /// Its namespace's label has opted it in.
    pub by_namespace: bool,
    /// What will happen.
    pub targets: Vec<Outcome>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// All that `check` has to say.
#[derive(Debug, Default)]
pub struct Report {
    /// Templates that are guarded, or look as if they were meant to be.
    pub checked: Vec<Checked>,
    /// What could not be read.
    pub unreadable: Vec<Unreadable>,
    /// Objects in the input.
    pub objects: usize,
    /// Pod templates in it.
    pub templates: usize,
}

impl Checked {
    /// Something of it will be evicted.
    #[must_use]
    pub fn guarded(&self) -> bool {
        self.targets.iter().any(|target| !target.never)
    }
}

impl Report {
    /// Reads and judges what the flags name.
    pub fn of(args: &CheckArgs, stdin: &mut dyn Read) -> Report {
        Report::of_input(Input::read(&args.filename, args.recursive, stdin))
    }

    /// Judges what was read.
    #[must_use]
    pub fn of_input(input: Input) -> Report {
        let all = objects(&input.documents);
        let company = Company::of(&all);
        let checked = all.iter().filter_map(|object| match object.template() {
            Some(template) => {
                let said = judge(&template, &company);
                let relevant = !said.targets.is_empty() || !said.findings.is_empty();
                relevant.then(|| checked(*object, template.line(), said))
            }
            None => {
                let said = match Space::of(*object) {
                    Some(space) => space.judge(),
                    None => Judgement { findings: stranger(*object).into_iter().collect(), ..Judgement::default() },
                };
                (!said.findings.is_empty()).then(|| checked(*object, object.node.line, said))
            }
        });
        let checked = checked.collect();
        Report { checked, objects: all.len(), templates: company.templates.len(), unreadable: input.unreadable }
    }

    /// How many templates are guarded.
    #[must_use]
    pub fn guarded(&self) -> usize {
        self.checked.iter().filter(|c| c.guarded()).count()
    }

    /// How many findings there are of a level.
    #[must_use]
    pub fn count(&self, level: Level) -> usize {
        self.checked.iter().flat_map(|c| &c.findings).filter(|f| f.level == level).count()
    }

    /// 2: something could not be read; 1: there are errors; 0: fine, or warnings alone.
    #[must_use]
    pub fn exit(&self) -> u8 {
        match (self.unreadable.is_empty(), self.count(Level::Error)) {
            (false, _) => 2,
            (true, 1..) => 1,
            (true, 0) => 0,
        }
    }
}

fn checked(object: Object<'_>, line: u64, said: Judgement) -> Checked {
    Checked {
        file: object.file.to_owned(),
        document: object.document,
        line,
        kind: object.kind.to_owned(),
        namespace: object.namespace().map(str::to_owned),
        name: object.name().to_owned(),
        by_namespace: said.by_namespace,
        targets: said.targets,
        findings: said.findings,
    }
}
