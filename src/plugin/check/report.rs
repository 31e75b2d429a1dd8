//! All that `check` has to say about its input.

use std::io::Read;

use super::assess::assess;
use super::finding::{Assessment, Finding, Outcome, Severity};
use super::input::{Input, Unreadable};
use super::namespaces::Namespace;
use super::objects::{Object, objects};
use super::surroundings::Surroundings;
use super::unknown_kind::{unknown_kind, values};

/// One pod template that has something to do with us, or an object that may have one.
#[derive(Debug)]
pub struct Checked {
    /// The file as it was named.
    pub file: String,
    /// Which document of it, from 1.
    pub document: usize,
    /// Where the template's metadata is; of another object, where it begins.
    pub line: u64,
    pub kind: String,
    /// `metadata.namespace`, where it is written.
    pub namespace: Option<String>,
    pub name: String,
    /// Its namespace's label has opted it in.
    pub by_namespace: bool,
    pub targets: Vec<Outcome>,
    pub findings: Vec<Finding>,
}

#[derive(Debug, Default)]
pub struct CheckReport {
    /// Templates that are guarded, or look as if they were meant to be.
    pub checked: Vec<Checked>,
    /// What could not be read.
    pub unreadable: Vec<Unreadable>,
    pub objects: usize,
    pub templates: usize,
}

impl Checked {
    fn new(object: Object<'_>, line: u64, assessment: Assessment) -> Checked {
        Checked {
            file: object.file.to_owned(),
            document: object.document,
            line,
            kind: object.kind.to_owned(),
            namespace: object.namespace().map(str::to_owned),
            name: object.name().to_owned(),
            by_namespace: assessment.by_namespace,
            targets: assessment.targets,
            findings: assessment.findings,
        }
    }

    /// Something of it will be evicted.
    #[must_use]
    pub fn guarded(&self) -> bool {
        self.targets.iter().any(|target| !target.never)
    }
}

impl CheckReport {
    /// Reads and checks files, directories (`recursive`: also those in them) and `-`, which is `stdin`.
    pub fn of(files: &[String], recursive: bool, stdin: &mut dyn Read) -> CheckReport {
        CheckReport::of_input(Input::read(files, recursive, stdin))
    }

    #[must_use]
    pub fn of_input(input: Input) -> CheckReport {
        let all = objects(&input.documents);
        let surroundings = Surroundings::of(&all);
        let checked = all.iter().filter_map(|object| {
            let (line, assessment) = match object.template() {
                Some(template) => (template.line(), assess(&template, &surroundings)),
                None => (object.node.line, of_other(*object)),
            };
            let relevant = !assessment.targets.is_empty() || !assessment.findings.is_empty();
            relevant.then(|| Checked::new(*object, line, assessment))
        });
        let others = input.documents.iter().filter_map(values).map(|(object, finding)| {
            let assessment = Assessment { findings: vec![finding], ..Assessment::default() };
            Checked::new(object, object.node.line, assessment)
        });
        let (checked, templates) = (checked.chain(others).collect(), surroundings.templates.len());
        CheckReport { checked, objects: all.len(), templates, unreadable: input.unreadable }
    }

    /// How many templates are guarded.
    #[must_use]
    pub fn guarded(&self) -> usize {
        self.checked.iter().filter(|c| c.guarded()).count()
    }

    /// How many findings are so bad.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.checked.iter().flat_map(|c| &c.findings).filter(|f| f.severity == severity).count()
    }

    /// 2: something could not be read; 1: there are errors; 0: fine, or warnings alone.
    #[must_use]
    pub fn exit(&self) -> u8 {
        match (self.unreadable.is_empty(), self.count(Severity::Error)) {
            (false, _) => 2,
            (true, 1..) => 1,
            (true, 0) => 0,
        }
    }
}

/// Of an object without a pod template that `check` knows.
fn of_other(object: Object<'_>) -> Assessment {
    match Namespace::of(object) {
        Some(namespace) => namespace.assess(),
        None => Assessment { findings: unknown_kind(object).into_iter().collect(), ..Assessment::default() },
    }
}
