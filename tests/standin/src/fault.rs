//! Trouble on request: answers of our own, delays, silence, torn connections.

use crate::answers::{self, Fact};
use crate::reply::Reply;
use serde_json::Value;
use std::time::Duration;

/// What shall happen to requests of a method whose target contains a text.
///
/// Faults are tried in the order they were given; each request meets the first that fits and is not
/// used up. Without [`times`](Fault::times) or [`always`](Fault::always) a fault serves one request.
#[derive(Clone, Debug)]
pub struct Fault {
    method: String,
    target: String,
    left: Option<usize>,
    pub(crate) delay: Duration,
    pub(crate) after_handling: bool,
    pub(crate) act: Act,
}

#[derive(Clone, Debug)]
pub(crate) enum Act {
    Handle,
    Answer { code: u16, headers: Vec<(String, String)>, body: Value },
    Recorded(&'static Fact),
    Hang,
    CutAfter(usize),
    HangAfter(usize),
    Reset,
}

impl Fault {
    /// Requests with this method (`*` = any) whose path and query contain `target`.
    pub fn on(method: &str, target: &str) -> Fault {
        Fault {
            method: method.to_owned(),
            target: target.to_owned(),
            left: Some(1),
            delay: Duration::ZERO,
            after_handling: false,
            act: Act::Handle,
        }
    }

    /// Serves this many requests.
    pub fn times(mut self, n: usize) -> Fault {
        self.left = Some(n);
        self
    }

    /// Serves every request until [`clear_faults`](crate::Standin::clear_faults).
    pub fn always(mut self) -> Fault {
        self.left = None;
        self
    }

    /// Answers this; a body that is a string goes out as it is.
    pub fn answer(self, code: u16, headers: &[(&str, &str)], body: impl Into<Value>) -> Fault {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.act(Act::Answer { code, headers, body: body.into() })
    }

    /// Answers as recorded under this name (`evict-429-apf`), with the names of the request.
    ///
    /// # Panics
    /// If the table of [`answers`] has no such entry.
    pub fn recorded(self, name: &str) -> Fault {
        let Some(fact) = answers::find(name) else { panic!("no answer named {name:?} in standin::answers::ALL") };
        self.fact(fact)
    }

    /// Answers as the table has it, with the names of the request: for the entries that were seen and not recorded.
    pub fn fact(self, fact: &'static Fact) -> Fault {
        self.act(Act::Recorded(fact))
    }

    /// Waits before anything else happens.
    pub fn delay(mut self, delay: Duration) -> Fault {
        self.delay = delay;
        self
    }

    /// Never answers, and keeps the connection.
    pub fn hang_before_headers(self) -> Fault {
        self.act(Act::Hang)
    }

    /// Handles the request, then tears the connection after so many bytes of the body.
    pub fn cut_after(self, bytes: usize) -> Fault {
        self.act(Act::CutAfter(bytes))
    }

    /// Handles the request, then keeps the connection and sends no more after so many bytes of the body.
    pub fn hang_after(self, bytes: usize) -> Fault {
        self.act(Act::HangAfter(bytes))
    }

    /// Resets the connection (TCP RST) instead of answering.
    pub fn reset(self) -> Fault {
        self.act(Act::Reset)
    }

    /// The request is handled, and only then its answer meets the fault: it *did* happen.
    pub fn after_handling(mut self) -> Fault {
        self.after_handling = true;
        self
    }

    fn act(mut self, act: Act) -> Fault {
        self.act = act;
        self
    }
}

/// The fault for this request, one use of it taken.
pub(crate) fn take(faults: &mut [Fault], method: &str, target: &str) -> Option<Fault> {
    let fits = |fault: &&mut Fault| {
        fault.left != Some(0) && (fault.method == "*" || fault.method == method) && target.contains(&fault.target)
    };
    let fault = faults.iter_mut().find(fits)?;
    fault.left = fault.left.map(|left| left - 1);
    Some(fault.clone())
}

/// The answer of a fault that has one of its own.
pub(crate) fn answer(act: &Act, vars: &[(&str, &str)]) -> Option<Reply> {
    match act {
        Act::Recorded(fact) => Some(fact.reply(vars)),
        Act::Answer { code, headers, body } => {
            let reply = match body {
                Value::String(text) => Reply::text(*code, text.clone()),
                body => Reply::json(*code, body.clone()),
            };
            Some(headers.iter().fold(reply, |reply, (name, value)| reply.header(name, value)))
        }
        Act::Handle | Act::Hang | Act::CutAfter(_) | Act::HangAfter(_) | Act::Reset => None,
    }
}
