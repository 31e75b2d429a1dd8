//! The last notices about evictions and misses, for `/api/guards` and the page.

use std::collections::VecDeque;

use jiff::Timestamp;

use super::events::cut;
use super::notice::Notice;
use crate::pods::Owner;
use crate::serve::wire::RecentView;

/// How many are kept: a screenful or two. Each has at most an Event's note of text and five names, so all of them stay
/// below 150 KiB.
const MOST: usize = 50;

#[derive(Debug, Default)]
pub struct Recent {
    reported: u64,
    last: VecDeque<RecentView>,
}

impl Recent {
    /// Keeps a notice if it is news about an eviction, and drops the oldest.
    pub fn keep(&mut self, at: Timestamp, notice: &Notice) {
        if !notice.subject.is_about_an_eviction() || !notice.subject.is_news() {
            return;
        }
        self.reported += 1;
        self.last.truncate(MOST - 1);
        self.last.push_front(view(self.reported, at, notice));
    }

    /// All notices that are kept, the newest first.
    #[must_use]
    pub fn all(&self) -> Vec<RecentView> {
        self.last.iter().cloned().collect()
    }
}

fn view(number: u64, at: Timestamp, notice: &Notice) -> RecentView {
    RecentView {
        number,
        at: at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        reason: notice.subject.reason().into(),
        namespace: notice.pod.namespace.clone(),
        pod: notice.pod.name.clone(),
        uid: notice.pod.uid.0.clone(),
        owner: notice.owner.as_ref().map(Owner::workload),
        container: notice.container.clone(),
        words: cut(notice.words()),
        facts: notice.subject.facts(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::act::answer::Answer;
    use crate::decide::eligibility::Never;
    use crate::pods::guard::DryRun;
    use crate::pods::{PodRef, PodUid};
    use crate::report::notice::Subject;

    fn notice(subject: Subject) -> Notice {
        let uid = PodUid("u".into());
        let pod = PodRef { namespace: "demo".into(), name: "web".into(), uid };
        Notice { pod, owner: None, container: Some("app".into()), by_namespace: false, subject, story: None }
    }

    fn slow(seconds: u64) -> Subject {
        Subject::Slow { since: Duration::from_secs(seconds), growth: 1 << 20 }
    }

    #[test]
    fn the_last_fifty_are_kept_the_newest_first() {
        let mut recent = Recent::default();
        for seconds in 0..1000 {
            recent.keep(Timestamp::UNIX_EPOCH, &notice(slow(seconds)));
        }
        let all = recent.all();
        assert_eq!((all.len(), recent.last.capacity() < 2 * MOST), (MOST, true));
        assert_eq!((all[0].number, all[MOST - 1].number), (1000, 951));
        assert!(all[0].words.contains("999 s after"), "{}", all[0].words);
        assert_eq!(all[0].at, "1970-01-01T00:00:00Z");
    }

    #[test]
    fn only_news_about_evictions_is_kept_and_long_words_are_cut() {
        let mut recent = Recent::default();
        recent.keep(Timestamp::UNIX_EPOCH, &notice(Subject::Never(Never::Agent)));
        recent.keep(Timestamp::UNIX_EPOCH, &notice(Subject::NoLimit));
        assert!(recent.all().is_empty());
        let evidence = crate::report::events::tests::evidence();
        let answer = |answer| Subject::NotEvicted {
            evidence,
            act: crate::act::order::Act::Evict,
            answer,
            mode: DryRun::Server,
            asked: false,
        };
        recent.keep(Timestamp::UNIX_EPOCH, &notice(answer(Answer::Gone)));
        assert!(recent.all().is_empty());
        recent.keep(Timestamp::UNIX_EPOCH, &notice(answer(Answer::Failing { code: 500, message: "é".repeat(5000) })));
        let kept = &recent.all()[0];
        assert!(kept.words.len() <= 1024);
        assert_eq!((&*kept.reason, kept.facts.answer.as_deref()), ("PreOOMEvictionFailed", Some("failing")));
        assert_eq!((kept.facts.value, kept.facts.dry_run.as_deref()), (Some(161_500_000), Some("server")));
    }
}
