//! What `check` finds: plain data.

use super::objects::Object;
use crate::ground::units::Bytes;
use crate::pods::guard::Problem;

/// What the check of one template, or of one namespace, comes to.
#[derive(Debug, Default)]
pub struct Assessment {
    /// Its namespace's label has opted it in.
    pub by_namespace: bool,
    /// One for each guarded container, and for the pod's own group where it is guarded too.
    pub targets: Vec<Outcome>,
    /// What is wrong or risky.
    pub findings: Vec<Finding>,
}

/// What will happen to one target.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// None: the pod's own group.
    pub container: Option<String>,
    /// In words, without the container's name.
    pub text: String,
    /// The signal that is compared.
    pub signal: &'static str,
    /// The threshold in bytes; null: a percentage of no limit.
    pub threshold: Option<Bytes>,
    /// The limit that it is below; null: none is written.
    pub limit: Option<Bytes>,
    /// The fastest growth, in bytes a second, that an eviction is still in time for; null: no limit, or never evicted.
    pub fastest_growth: Option<u64>,
    /// The threshold cannot be crossed: see the findings.
    pub never: bool,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// It does not do what was meant.
    Error,
    Warning,
}

/// A field as a path in the object, and its line or that of what it is missing in.
pub type Place = (String, u64);

/// Something that is wrong or risky.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    /// The kind of finding, for programs.
    pub code: Code,
    /// The file, which for a disruption budget may be another one than the template's.
    pub file: String,
    /// Which document of it, from 1.
    pub document: usize,
    /// The field, as a path in the object.
    pub field: String,
    /// The field's line, or that of what it is missing in.
    pub line: u64,
    /// What is wrong, and what to write instead.
    pub message: String,
}

impl Finding {
    pub(super) fn new(
        object: Object<'_>,
        severity: Severity,
        code: Code,
        (field, line): Place,
        message: impl Into<String>,
    ) -> Finding {
        let (file, document, message) = (object.file.to_owned(), object.document, message.into());
        Finding { severity, code, file, document, field, line, message }
    }
}

macro_rules! codes {
    ($($name:ident $text:literal,)*) => {
        /// The kind of a finding; docs/check.md says what each means.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "they are described in docs/check.md")]
        pub enum Code { $($name,)* }

        impl Code {
            pub const ALL: &[Code] = &[$(Code::$name,)*];

            /// As the JSON has it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }
        }
    };
}

codes! {
    AnnotationKey "annotation-key",
    AnnotationOnOwner "annotation-on-owner",
    BarePod "bare-pod",
    BelowRequest "below-request",
    BeyondLimit "beyond-limit",
    ForceDelete "force-delete",
    JobFailure "job-failure",
    KeyPlace "key-place",
    KindUnknown "kind-unknown",
    LabelKey "label-key",
    LabelOnOwner "label-on-owner",
    LabelValue "label-value",
    LimitTiny "limit-tiny",
    LimitUnreadable "limit-unreadable",
    NamespaceExcluded "namespace-excluded",
    NamespaceInvalid "namespace-invalid",
    NearLimit "near-limit",
    NoEffect "no-effect",
    NoLabel "no-label",
    NoLimit "no-limit",
    NoPdb "no-pdb",
    NoTarget "no-target",
    NoThreshold "no-threshold",
    NotText "not-text",
    OldKey "old-key",
    OneReplica "one-replica",
    Patch "patch",
    PdbBlocks "pdb-blocks",
    PdbSeveral "pdb-several",
    RemedyLeftOut "remedy-left-out",
    TargetInvalid "target-invalid",
    TargetMissing "target-missing",
    TargetUnknown "target-unknown",
    ThresholdInvalid "threshold-invalid",
    ThresholdTiny "threshold-tiny",
    Unrendered "unrendered",
    ValueInvalid "value-invalid",
}

impl Code {
    /// What an invalid guard is reported as.
    pub(super) fn of(problem: &Problem) -> Code {
        match problem {
            Problem::MissingThreshold => Code::NoThreshold,
            Problem::BadPercent { .. } | Problem::BadQuantity { .. } | Problem::TinyQuantity { .. } => {
                Code::ThresholdInvalid
            }
            Problem::BadTarget { .. } => Code::TargetInvalid,
            Problem::NoSuchContainer { .. } | Problem::InitContainer { .. } => Code::TargetUnknown,
            Problem::Ambiguous { .. } => Code::TargetMissing,
            Problem::BadValue { .. }
            | Problem::SpreadTooWide { .. }
            | Problem::SpreadOfQuantity { .. }
            | Problem::RaiseWithoutBound
            | Problem::BadBound { .. }
            | Problem::BoundTooLow { .. }
            | Problem::RaiseOfQuantity { .. }
            | Problem::ForceDeleteWithoutEvict
            | Problem::WarnAlone { .. }
            | Problem::WarnTooHigh { .. } => Code::ValueInvalid,
            // Never: `check` gives the guard only what can be read.
            Problem::Unreadable(_) => Code::ValueInvalid,
        }
    }
}
