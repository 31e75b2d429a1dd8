//! The API server's side of an eviction: every row of the table of answers, as the real one words it,
//! and what becomes of a request.

use std::sync::LazyLock;
use std::time::Duration;

use fastrand::Rng;
use standin::answers::{self, Fact, Form};

/// An answer as it comes over the wire.
#[derive(Debug)]
pub struct Row {
    pub name: &'static str,
    pub code: u16,
    pub retry_after: Option<Duration>,
    pub body: String,
}

fn row(name: &'static str, fact: &Fact) -> Row {
    let vars = [
        ("name", "web"),
        ("namespace", "demo"),
        ("qualified", "pods"),
        ("subject", "pods \"web\""),
        ("plural", "pods"),
        ("budget", "guarded"),
        ("desired", "1"),
        ("healthy", "1"),
        ("wanted", "u1"),
        ("found", "u2"),
        ("node", "node-host"),
        ("deed", "evict"),
        ("impersonated", "system:node:node-host"),
        ("reason", "pod web is not on node node-host"),
    ];
    let body = match fact.form {
        Form::Text => fact.message.to_owned(),
        _ => fact.status(&vars).to_string(),
    };
    let retry_after = fact.retry_after.map(|s| Duration::from_secs(s.into()));
    Row { name, code: fact.code, retry_after, body }
}

fn plain(name: &'static str, code: u16, body: &str) -> Row {
    Row { name, code, retry_after: None, body: body.to_owned() }
}

macro_rules! rows {
    ($($id:ident = $row:expr;)*) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "named as the answers' table has them")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind { $($id),* }
        impl Kind {
            pub const ALL: &[Kind] = &[$(Kind::$id),*];
        }
        static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| vec![$($row),*]);
    };
}

rows! {
    EVICTED = row("201 accepted", &answers::EVICTED);
    DELETED = plain("200 deleted", 200, r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"web","uid":"u1"}}"#);
    DELETED_AT_ONCE = plain("200 deleted at once", 200, r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success","details":{"name":"web","kind":"pods","uid":"u1"}}"#);
    NOT_FOUND = row("404", &answers::NOT_FOUND);
    CONFLICT_UID = row("409 uid", &answers::CONFLICT_UID);
    BUDGET_BLOCKS = row("429 budget", &answers::BUDGET_BLOCKS);
    BUDGET_UNOBSERVED = row("429 budget, not processed yet", &answers::BUDGET_UNOBSERVED);
    BUDGET_SYNC_FAILED = row("429 budget, sync failed", &answers::BUDGET_SYNC_FAILED);
    TWO_BUDGETS = row("500 two budgets", &answers::TWO_BUDGETS);
    NAMESPACE_TERMINATING = row("403 namespace terminating", &answers::NAMESPACE_TERMINATING);
    THROTTLED = row("429 throttled", &answers::THROTTLED);
    FORBIDDEN = row("403 rbac", &answers::FORBIDDEN);
    NODE_RESTRICTION = row("403 node restriction", &answers::NODE_RESTRICTION);
    POLICY_FORBIDDEN = row("403 admission", &answers::POLICY_FORBIDDEN);
    POLICY_DEFAULT = row("422 admission", &answers::POLICY_DEFAULT);
    POLICY_CEL_ERROR = row("422 admission error", &answers::POLICY_CEL_ERROR);
    POLICY_TOO_LARGE = row("413 admission", &answers::POLICY_TOO_LARGE);
    WEBHOOK_DOWN = row("500 webhook down", &answers::WEBHOOK_DOWN);
    WEBHOOK_TIMEOUT = row("500 webhook late", &answers::WEBHOOK_TIMEOUT);
    UNAUTHORIZED = row("401", &answers::UNAUTHORIZED);
    CONFLICT_INSIDE = plain("409 inside", 409, r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Operation cannot be fulfilled","reason":"Conflict","details":{"name":"b","kind":"poddisruptionbudgets"},"code":409}"#);
    BAD_GATEWAY = plain("502", 502, "<html>bad gateway</html>");
    UNAVAILABLE = plain("503", 503, "");
    GATEWAY_TIMEOUT = plain("504", 504, r#"{"kind":"Status","status":"Failure","reason":"Timeout","code":504}"#);
    SIGN_IN = plain("200 of a proxy", 200, "<html>sign in</html>");
    GOOD_CODE = plain("200 with a failure in it", 200, r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"no","reason":"Forbidden","code":403}"#);
    PATH_NOT_FOUND = row("404 of a proxy", &answers::PATH_NOT_FOUND);
    NOT_JSON = row("400", &answers::NOT_JSON);
    UNSUPPORTED_MEDIA_TYPE = row("415", &answers::UNSUPPORTED_MEDIA_TYPE);
    // Until the table of answers has a webhook's denials; `Answer::Denied` will have a pace of its own.
    WEBHOOK_DENIES = plain("400 webhook denies", 400, r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"admission webhook \"deny.example.com\" denied the request: not now","code":400}"#);
    RESIZED = plain("200 resized", 200, r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"web","uid":"u1","generation":2}}"#);
    RESIZE_UID = row("422 resize, uid", &answers::RESIZE_UID);
    RESIZE_ABOVE_POD = row("422 resize, above the pod's limit", &answers::RESIZE_ABOVE_POD);
    RESIZE_CAPACITY = row("403 resize, capacity", &answers::NODE_CAPACITY);
    RESIZE_QUOTA = row("403 resize, quota", &answers::QUOTA_LIMITS);
    RESIZE_RANGE = row("403 resize, limit range", &answers::LIMIT_RANGE);
    RESIZE_POLICY = row("403 resize, policy", &answers::POLICY_OWN_NODE_RESIZE);
    RESIZE_WEBHOOK = row("400 resize, webhook denies", &answers::RESIZE_WEBHOOK_IN_WORDS);
    RESIZE_WEBHOOK_403 = row("403 resize, webhook denies", &answers::RESIZE_WEBHOOK_403);
    RESIZE_WEBHOOK_429 = row("429 resize, webhook denies", &answers::RESIZE_WEBHOOK_429);
    RESIZE_WEBHOOK_500 = row("500 resize, webhook denies", &answers::RESIZE_WEBHOOK_500);
    RESIZE_WEBHOOK_BROKEN = row("500 resize, webhook broken", &answers::RESIZE_WEBHOOK_HTTP_500);
    WEBHOOK_DENIES_429 = plain("429 webhook denies", 429, r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"admission webhook \"deny.example.com\" denied the request: not now","code":429}"#);
}

impl Kind {
    pub fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is looked at as the server does, pod and budget.
    Truth,
    /// It gets this answer, and nothing is done.
    Turned(Kind),
    /// It is accepted, and nothing is done.
    Nothing,
    /// It does not arrive.
    LostBefore,
    /// It is done, and the answer is lost.
    LostAfter,
    /// The answer comes too late, if at all.
    Never,
}

/// How the server fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Well,
    Mixed,
    Only(Fate),
}

impl Mood {
    pub fn random(rng: &mut Rng) -> Mood {
        match rng.u8(0..10) {
            0..=4 => Mood::Well,
            5..=7 => Mood::Mixed,
            _ => Mood::Only(fate(rng)),
        }
    }

    pub fn fate(self, rng: &mut Rng) -> Fate {
        match self {
            Mood::Well => Fate::Truth,
            Mood::Mixed => match rng.bool() {
                true => Fate::Truth,
                false => fate(rng),
            },
            Mood::Only(fate) => fate,
        }
    }
}

fn fate(rng: &mut Rng) -> Fate {
    use Kind::*;
    const TURNED: [Kind; 23] = [
        NOT_FOUND,
        CONFLICT_UID,
        WEBHOOK_DENIES,
        WEBHOOK_DENIES_429,
        THROTTLED,
        FORBIDDEN,
        NODE_RESTRICTION,
        POLICY_FORBIDDEN,
        POLICY_DEFAULT,
        POLICY_CEL_ERROR,
        POLICY_TOO_LARGE,
        WEBHOOK_DOWN,
        WEBHOOK_TIMEOUT,
        UNAUTHORIZED,
        CONFLICT_INSIDE,
        BAD_GATEWAY,
        UNAVAILABLE,
        GATEWAY_TIMEOUT,
        SIGN_IN,
        GOOD_CODE,
        PATH_NOT_FOUND,
        NOT_JSON,
        UNSUPPORTED_MEDIA_TYPE,
    ];
    match rng.u8(0..10) {
        0 | 1 => Fate::LostBefore,
        2 => Fate::LostAfter,
        3 => Fate::Never,
        4 => Fate::Nothing,
        _ => Fate::Turned(TURNED[rng.usize(0..TURNED.len())]),
    }
}

/// What a resize is turned down with.
pub fn turned_resize(rng: &mut Rng) -> Kind {
    use Kind::*;
    const TURNED: [Kind; 20] = [
        NOT_FOUND,
        RESIZE_UID,
        RESIZE_ABOVE_POD,
        RESIZE_CAPACITY,
        RESIZE_QUOTA,
        RESIZE_QUOTA,
        RESIZE_RANGE,
        RESIZE_POLICY,
        RESIZE_WEBHOOK,
        RESIZE_WEBHOOK_403,
        RESIZE_WEBHOOK_429,
        RESIZE_WEBHOOK_500,
        RESIZE_WEBHOOK_BROKEN,
        FORBIDDEN,
        THROTTLED,
        UNAUTHORIZED,
        BAD_GATEWAY,
        UNAVAILABLE,
        GATEWAY_TIMEOUT,
        SIGN_IN,
    ];
    TURNED[rng.usize(0..TURNED.len())]
}

/// What a pod's disruption budgets say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    Allows,
    Blocks,
    Unobserved,
    SyncFailed,
    Two,
}

impl Budget {
    pub fn random(rng: &mut Rng) -> Budget {
        match rng.u8(0..12) {
            0 | 1 => Budget::Blocks,
            2 => Budget::Unobserved,
            3 => Budget::SyncFailed,
            4 => Budget::Two,
            _ => Budget::Allows,
        }
    }

    pub fn answer(self) -> Option<Kind> {
        match self {
            Budget::Allows => None,
            Budget::Blocks => Some(Kind::BUDGET_BLOCKS),
            Budget::Unobserved => Some(Kind::BUDGET_UNOBSERVED),
            Budget::SyncFailed => Some(Kind::BUDGET_SYNC_FAILED),
            Budget::Two => Some(Kind::TWO_BUDGETS),
        }
    }
}
