//! How long the agent waits for the API server.

use std::time::Duration;

/// For TCP and TLS, which take 5–7 ms if all is well (*measured*). This allows for one lost SYN (sent again after 1 s) on a
/// slow network; kube's own bound is 30 s.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// For the response headers of a list or a watch. Without a bound, a watch whose headers never come would hang for ever.
pub const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// For the answer to an eviction: admission webhooks take 8–30 s (*measured*).
pub const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// For the answer to an eviction, before it is sent once more on another connection. An eviction takes 9–16 ms if all is
/// well (*measured*), so a late one may lie on a connection that died silently. To send it twice is safe: the pod's uid is
/// its precondition.
pub const HEDGE_AFTER: Duration = Duration::from_secs(1);
/// For the first request, once the second one has failed. Then the server is most likely away, and the first connection
/// dead. As long as a request waits for its answer, no other one can be sent, even if the server is back.
pub const FIRST_WITHIN: Duration = Duration::from_secs(3);
/// For the answer to a ping, which the server gives from its cache within milliseconds. After that the connection counts
/// as dead, as it does for an eviction.
pub const PING_WITHIN: Duration = HEDGE_AFTER;
