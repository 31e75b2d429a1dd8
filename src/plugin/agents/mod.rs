//! How the commands find the agents of a cluster, and ask them, with the user's own kubeconfig and permissions.
//!
//! | file | what is in it |
//! |---|---|
//! | [`query`] | what is asked for, and the flags that say it |
//! | [`find`] | which pods are agents |
//! | [`named`] | the pod or the workload that a user names |
//! | [`missed`] | which incidents ended in a kill |
//! | [`ask`] | asks each of them, through the API server's pod proxy |
//! | [`told`] | which of them did not answer, for people and programs |
//! | `lists` | lists of the API server, page by page |

pub mod ask;
pub mod find;
pub(super) mod lists;
pub mod missed;
pub mod named;
pub mod query;
pub mod told;
