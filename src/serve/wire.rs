//! The format of `/api/guards`. The agent writes it; `status` and the page read it.
//!
//! Reading is lenient, because `status` may meet agents of other versions. An unknown field is ignored, a missing one
//! gets its default, and a word may be one that this version does not know.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One of a few words. The agent writes only its own; a reader may meet any.
pub type Word = Cow<'static, str>;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GuardsPage {
    /// The node that the agent guards.
    pub node: String,
    pub version: String,
    /// When the agent started, in RFC 3339.
    pub started: String,
    /// `off`, `client` or `server`, for all pods.
    pub dry_run: Word,
    /// The first list of pods is complete.
    pub listed: bool,
    /// 0 while the API server answers.
    pub list_age_seconds: u64,
    /// Each guarded container, and each pod whose guard is invalid.
    pub guards: Vec<GuardView>,
    /// The last notices about evictions, the newest first.
    pub recent: Vec<RecentView>,
}

/// One guarded container, or one pod whose guard is invalid.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GuardView {
    pub namespace: String,
    pub pod: String,
    pub uid: String,
    /// The controlling owner as `Kind/name`; a Deployment instead of its ReplicaSet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The container; none: the pod's own group, or the whole pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The directory of the group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// What the agent does about it now.
    pub state: GuardState,
    pub why: String,
    /// Why it is never evicted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub never: Option<Word>,
    /// `client` or `server` if an annotation or the agent's flag sets a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<Word>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<Word>,
    /// In the annotation's notation; lowered by the pod's share of `threshold-spread`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<String>,
    /// `namespace` if the namespace's label has opted the pod in; none: the pod's own label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guarded_by: Option<Word>,
    /// The remedies that the pod lists.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remedies: Vec<Word>,
    /// How long they take in this namespace, and on this node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<LatencyView>,
    /// The last sample.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryView>,
}

/// The last sample of a group; sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MemoryView {
    pub usage: u64,
    /// The last known value of the signal.
    pub value: Option<u64>,
    /// The limit that a percentage refers to; null: none.
    pub limit: Option<u64>,
    /// The threshold; null: a percentage without a limit.
    pub threshold: Option<u64>,
    /// The margin to a kill; null: no limit.
    pub room: Option<u64>,
    /// Growth of non-reclaimable memory over the last quarter of a second, in bytes a second.
    pub growth: Option<i64>,
    /// The same over the last minute; null in the first seconds.
    pub slow_growth: Option<i64>,
    /// How long ago it was sampled, in milliseconds.
    pub age_ms: u64,
    /// In how many milliseconds it is sampled next.
    pub next_ms: u64,
    /// v2's `memory.high`, at which the kernel slows it down; null: none.
    pub high: Option<u64>,
    /// How many kills the kernel has counted in this group.
    pub oom_kills: Option<u64>,
    /// For how long the agent has watched it, in seconds.
    pub known_seconds: u64,
    /// The growth of the signal over the last minutes, or the last hours where it stands still in those, in bytes a minute.
    /// One step is no growth. Null in the first 90 seconds.
    pub growth_per_minute: Option<i64>,
    /// For how long it has been growing like this.
    pub growing_seconds: Option<u64>,
    /// When it will be above its threshold if it keeps growing like this, in seconds; null: it does not grow.
    pub above_in_seconds: Option<u64>,
    /// The most of the signal, where it was known, within the last day.
    pub peak: Option<u64>,
    /// The most of the usage within the last day.
    pub usage_peak: Option<u64>,
    /// The most that usage ever was, as the kernel remembers it (`memory.peak`; v1: `memory.max_usage_in_bytes`). Page cache
    /// counts. Only with `?history=1`.
    pub kernel_peak: Option<u64>,
    /// The fastest rise of the signal between two known samples, at least a second apart, within the last day, in bytes a second.
    pub fastest_second: Option<u64>,
    /// The signal of the last five minutes and of the last day; only with `?history=1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<HistoryView>,
}

/// The most of the signal in equal parts of time, the oldest first, in KiB; null: not known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HistoryView {
    /// The last five minutes, each five seconds.
    pub minutes: Vec<Option<u64>>,
    /// The last day, each quarter of an hour.
    pub day: Vec<Option<u64>>,
}

/// How long nine of ten remedies took, from the request to the effect, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LatencyView {
    pub raise: u64,
    pub restart: u64,
    /// To the end of the container, its shutdown included.
    pub evict: u64,
    /// How many evictions this rests on; 0: it is assumed.
    pub evictions: u64,
}

/// One notice, with the content of its log line and its Event. Sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RecentView {
    /// Counts up from 1 during an agent's life.
    pub number: u64,
    /// When, in RFC 3339.
    pub at: String,
    pub reason: Word,
    pub namespace: String,
    pub pod: String,
    pub uid: String,
    /// The controlling owner as `Kind/name`; a Deployment instead of its ReplicaSet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The container; none: the pod's own group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The complete text, as in the Event.
    pub words: String,
    /// Its labels and numbers, as in its log line.
    #[serde(flatten)]
    pub facts: Facts,
}

/// The labels and numbers of a notice, which the log has, too. Sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Facts {
    /// The server's answer: the metrics' label `answer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<Word>,
    /// Why it is deferred, or why it was missed: the metrics' label `reason`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Word>,
    /// `client` or `server` if it was a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<Word>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<Word>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<u64>,
    /// Over the last quarter of a second, in bytes a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub growth: Option<i64>,
    /// Over the last minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_growth: Option<i64>,
    /// The margin to a kill.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room: Option<u64>,
    /// The limit that the kernel has since a raise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raised_to: Option<u64>,
    /// By how much the signal fell after a warning; negative if it rose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relieved: Option<i64>,
    /// From the request to the answer, or to the effect in the kernel, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<f64>,
}

/// What the agent does about a guarded container. docs/reference.md and the page explain each state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuardState {
    Watching,
    /// Below its threshold, and slowed down by the kernel at `memory.high`.
    AtMemoryHigh,
    /// Above its threshold, but not yet for `sustained-for`.
    Sustaining,
    /// The agent waits for the server's answer.
    Evicting,
    /// Its limit is being raised in place.
    Raising,
    /// It is being restarted in place.
    Restarting,
    /// Above its threshold, and none of its remedies is possible.
    NoRemedy,
    /// Above its threshold; the eviction is deferred.
    Held,
    /// A disruption budget does not allow the eviction now.
    Blocked,
    /// Above its threshold; another container is the reason why the pod is being evicted.
    Over,
    /// The server has accepted the eviction.
    Evicted,
    /// The eviction was a dry run.
    DryRun,
    /// Its cgroup is not found yet.
    Resolving,
    /// It is not running.
    Waiting,
    /// Its threshold is a percentage, and it has no limit.
    NoLimit,
    /// Its threshold is not below its limit.
    BeyondLimit,
    /// A file of its cgroup cannot be read.
    Unreadable,
    Invalid,
    /// It has opted in, but it is never evicted.
    Never,
    /// The server's last answer, by its label, or a state of another version.
    Other(Word),
}

impl GuardState {
    /// All states except the server's answers, which are in [`Answer::LABELS`].
    ///
    /// [`Answer::LABELS`]: crate::act::answer::Answer::LABELS
    pub const ALL: [GuardState; 19] = [
        GuardState::Watching,
        GuardState::AtMemoryHigh,
        GuardState::Sustaining,
        GuardState::Evicting,
        GuardState::Raising,
        GuardState::Restarting,
        GuardState::NoRemedy,
        GuardState::Held,
        GuardState::Blocked,
        GuardState::Over,
        GuardState::Evicted,
        GuardState::DryRun,
        GuardState::Resolving,
        GuardState::Waiting,
        GuardState::NoLimit,
        GuardState::BeyondLimit,
        GuardState::Unreadable,
        GuardState::Invalid,
        GuardState::Never,
    ];

    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            GuardState::Watching => "watching",
            GuardState::AtMemoryHigh => "at-memory-high",
            GuardState::Sustaining => "sustaining",
            GuardState::Evicting => "evicting",
            GuardState::Raising => "raising",
            GuardState::Restarting => "restarting",
            GuardState::NoRemedy => "no-remedy",
            GuardState::Held => "held",
            GuardState::Blocked => "blocked",
            GuardState::Over => "over",
            GuardState::Evicted => "evicted",
            GuardState::DryRun => "dry-run",
            GuardState::Resolving => "resolving",
            GuardState::Waiting => "waiting",
            GuardState::NoLimit => "no-limit",
            GuardState::BeyondLimit => "beyond-limit",
            GuardState::Unreadable => "unreadable",
            GuardState::Invalid => "invalid",
            GuardState::Never => "never",
            GuardState::Other(word) => word,
        }
    }
}

/// For an agent that sends no state.
impl Default for GuardState {
    fn default() -> GuardState {
        GuardState::Other(Word::default())
    }
}

impl PartialEq<&str> for GuardState {
    fn eq(&self, word: &&str) -> bool {
        self.as_str() == *word
    }
}

impl Serialize for GuardState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for GuardState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<GuardState, D::Error> {
        let word = String::deserialize(deserializer)?;
        let known = GuardState::ALL.into_iter().find(|state| state.as_str() == word);
        Ok(known.unwrap_or(GuardState::Other(word.into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every field is set: as an agent of this version writes it, key by key.
    const WHOLE: &str = r#"{"dryRun":"off","guards":[{"cgroup":"/g","container":"c","dryRun":"server","guardedBy":"namespace","latency":{"evict":3,"evictions":4,"raise":1,"restart":2},"memory":{"aboveInSeconds":14,"ageMs":9,"fastestSecond":18,"growingSeconds":13,"growth":-6,"growthPerMinute":-12,"high":19,"history":{"day":[2,null],"minutes":[null,1]},"kernelPeak":17,"knownSeconds":11,"limit":3,"nextMs":10,"oomKills":8,"peak":15,"room":5,"slowGrowth":-7,"threshold":4,"usage":1,"usagePeak":16,"value":2},"namespace":"n","never":"mirror","owner":"Job/j","pod":"p","remedies":["raise","evict"],"signal":"usage","state":"held","threshold":"60 %","uid":"u","why":"w"},{"memory":{"aboveInSeconds":null,"ageMs":0,"fastestSecond":null,"growingSeconds":null,"growth":null,"growthPerMinute":null,"high":null,"kernelPeak":null,"knownSeconds":0,"limit":null,"nextMs":0,"oomKills":null,"peak":null,"room":null,"slowGrowth":null,"threshold":null,"usage":0,"usagePeak":null,"value":null},"namespace":"","pod":"","state":"failing","uid":"","why":""}],"listAgeSeconds":1,"listed":true,"node":"a","recent":[{"answer":"accepted","at":"2026-11-24T03:00:00Z","cause":"too-fast","container":"c","dryRun":"client","growth":5,"limit":3,"namespace":"n","number":1,"owner":"Job/j","pod":"p","raisedTo":10,"reason":"PreOOMEvicted","relieved":-11,"room":7,"signal":"usage","slowGrowth":6,"threshold":4,"tookMs":8.5,"uid":"u","usage":2,"value":1,"words":"w"},{"at":"","namespace":"","number":2,"pod":"","reason":"","uid":"","words":""}],"started":"2026-11-24T02:00:00Z","version":"0.1.0"}"#;

    #[test]
    fn what_is_written_is_read_and_written_the_same() {
        let page: GuardsPage = serde_json::from_str(WHOLE).unwrap();
        assert_eq!(serde_json::to_value(&page).unwrap().to_string(), WHOLE);
        assert_eq!((&page.guards[0].state, page.guards[1].state.as_str()), (&GuardState::Held, "failing"));
        assert_eq!(page.recent[0].facts.took_ms, Some(8.5));
    }

    #[test]
    fn an_agent_that_knows_less_or_more_is_read_all_the_same() {
        let page = r#"{"listed": true, "new": 1, "guards": [{"pod": "p", "memory": {"x": 1}}], "recent": [{"y": 1}]}"#;
        let page: GuardsPage = serde_json::from_str(page).unwrap();
        assert_eq!((page.guards[0].pod.as_str(), page.guards[0].state.as_str()), ("p", ""));
        assert_eq!(
            (page.guards[0].memory.clone(), &page.recent[0]),
            (Some(MemoryView::default()), &RecentView::default())
        );
    }

    #[test]
    fn every_state_is_read_as_itself() {
        for state in GuardState::ALL {
            let text = serde_json::to_string(&state).unwrap();
            assert_eq!(serde_json::from_str::<GuardState>(&text).unwrap(), state, "{text}");
        }
    }
}
