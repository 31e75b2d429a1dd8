//! Tasks whose results are awaited. A failed task is reported, too; otherwise its result would be awaited for ever.

use std::collections::HashMap;
use std::future::Future;

use tokio::task::{AbortHandle, Id, JoinSet};
use tracing::error;

/// Tasks, each with a key that identifies it.
#[derive(Debug)]
pub(super) struct Tasks<K, T> {
    set: JoinSet<T>,
    known: HashMap<Id, K>,
}

impl<K, T: Send + 'static> Tasks<K, T> {
    pub(super) fn new() -> Tasks<K, T> {
        Tasks { set: JoinSet::new(), known: HashMap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.set.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    pub(super) fn spawn(&mut self, key: K, task: impl Future<Output = T> + Send + 'static) {
        let handle = self.set.spawn(task);
        self.note(key, &handle);
    }

    pub(super) fn spawn_blocking(&mut self, key: K, task: impl FnOnce() -> T + Send + 'static) {
        let handle = self.set.spawn_blocking(task);
        self.note(key, &handle);
    }

    fn note(&mut self, key: K, handle: &AbortHandle) {
        self.known.insert(handle.id(), key);
    }

    /// The key of the next task that has ended, with its result or how it failed; `None` if there is no task. Nothing
    /// is lost if this future is dropped before it is ready.
    pub(super) async fn next(&mut self) -> Option<(K, Result<T, String>)> {
        loop {
            let (id, brings) = match self.set.join_next_with_id().await? {
                Ok((id, brings)) => (id, Ok(brings)),
                Err(failed) => {
                    error!(error = %failed, "a task of the agent failed: this is a bug of pre-oom-killer");
                    (failed.id(), Err(failed.to_string()))
                }
            };
            if let Some(key) = self.known.remove(&id) {
                return Some((key, brings));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_fails_is_told_by_what_it_is_known() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut tasks = Tasks::new();
            tasks.spawn(1, async { panic!("on purpose") });
            let (key, failed) = tasks.next().await.unwrap();
            assert_eq!(key, 1);
            assert!(failed.unwrap_err().contains("panicked"));
            tasks.spawn(2, async { "done" });
            assert_eq!(tasks.next().await, Some((2, Ok("done"))));
            tasks.spawn_blocking(3, || panic!("on purpose"));
            let (key, failed) = tasks.next().await.unwrap();
            assert!(key == 3 && failed.is_err());
            tasks.spawn(4, std::future::pending());
            tasks.set.abort_all();
            let (key, failed) = tasks.next().await.unwrap();
            assert!(key == 4 && failed.unwrap_err().contains("cancelled"));
            assert!(tasks.is_empty() && tasks.known.is_empty());
            assert_eq!(tasks.next().await, None);
        });
    }
}
