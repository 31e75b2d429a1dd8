//! What surrounds a workload in the input: all that has a say when one of its pods is evicted.

use super::budget::Budget;
use super::limit_range::{DefaultLimit, LimitRange};
use super::namespaces::Namespace;
use super::objects::{Object, Template};
use super::scale::Autoscaler;

#[derive(Debug, Default)]
pub struct Surroundings<'a> {
    pub budgets: Vec<Budget<'a>>,
    pub autoscalers: Vec<Autoscaler<'a>>,
    pub namespaces: Vec<Namespace<'a>>,
    pub limit_ranges: Vec<LimitRange<'a>>,
    pub templates: Vec<Template<'a>>,
}

impl<'a> Surroundings<'a> {
    /// Finds it among all objects.
    #[must_use]
    pub fn of(objects: &[Object<'a>]) -> Surroundings<'a> {
        Surroundings {
            budgets: objects.iter().filter_map(|o| Budget::of(*o)).collect(),
            autoscalers: objects.iter().filter_map(|o| Autoscaler::of(*o)).collect(),
            namespaces: objects.iter().filter_map(|o| Namespace::of(*o)).collect(),
            limit_ranges: objects.iter().filter_map(|o| LimitRange::of(*o)).collect(),
            templates: objects.iter().filter_map(|o| o.template()).collect(),
        }
    }

    /// The namespace whose label guards a template's pods. Of an object that is there twice, kubectl applies the last.
    pub(super) fn guarding(&self, template: &Template<'_>) -> Option<Namespace<'a>> {
        self.namespaces.iter().rev().find(|namespace| namespace.guards(template)).copied()
    }

    /// The limit that the API server gives a template's containers without one.
    pub(super) fn default_limit(&self, template: &Template<'_>) -> Option<DefaultLimit<'a>> {
        let of = |range: &LimitRange<'a>| range.default_of(template);
        let beside = self.limit_ranges.iter().filter(|range| range.is_beside(template)).find_map(of);
        beside.or_else(|| self.limit_ranges.iter().find_map(of))
    }

    /// Whether a budget selects the pods of this template alone. (It counts the pods of all workloads that it selects.)
    pub(super) fn selects_alone(&self, budget: &Budget<'_>, template: &Template<'_>) -> bool {
        let mut others = self.templates.iter().filter(|other| !std::ptr::eq(other.node, template.node));
        !others.any(|other| !other.object.is_controlled() && budget.selects(other))
    }
}
