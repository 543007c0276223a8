//! Walks over the selected rows of a resource, in batches.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::continuation::Key;
use super::resource::{Resource, Row};
use super::sample_age::SampleAge;
use super::selector::{FieldSelector, LabelSelector};
use crate::model::labels::Labels;
use crate::model::rows::{Keeper, NodeRow, Pick, PodRow, Rows};

/// After so many rows a batch ends even if hardly any was selected, so that no call takes long.
const MOST_VISITED: usize = 4096;

/// Which rows a list asks for.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    /// The resource.
    pub(super) resource: Resource,
    /// One namespace, or all.
    pub(super) namespace: Option<String>,
    /// By label.
    pub(super) labels: LabelSelector,
    /// By name and namespace.
    pub(super) fields: FieldSelector,
}

impl Selection {
    fn takes(&self, (namespace, name): (&str, &str), labels: &Labels) -> bool {
        self.fields.matches(namespace, name) && self.labels.matches(labels)
    }

    /// Whether an object of this key and these labels, wherever it comes from, is selected.
    pub(super) fn covers(&self, (namespace, name): (&str, &str), labels: &Labels) -> bool {
        self.namespace.as_deref().is_none_or(|wanted| wanted == namespace)
            && self.takes((namespace, name), labels)
    }

    /// The namespace to look in, if there is but one.
    fn one_namespace(&self) -> Option<&str> {
        match self.resource {
            Resource::Nodes => None,
            Resource::Pods => self.namespace.as_deref().or_else(|| self.fields.namespace()),
        }
    }
}

/// Looks for the end of a page, a batch at a time.
pub(super) struct PageEnd {
    probe: Cursor,
    limit: usize,
    count: usize,
    last: Option<Key>,
}

impl PageEnd {
    /// Goes through another batch. Once known, the answer is the key of the page's last row, or `None` if
    /// nothing is selected behind the page.
    pub(super) fn advance(&mut self) -> ControlFlow<Option<Key>> {
        let Self { probe, limit, count, last } = self;
        probe.advance(&mut |row| {
            *count += 1;
            if count == limit {
                *last = Some(Key::new(row.key()));
            }
            if count > limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if count > limit {
            ControlFlow::Break(last.take())
        } else if probe.finished {
            ControlFlow::Break(None)
        } else {
            ControlFlow::Continue(())
        }
    }
}

/// A place among the rows of a selection.
pub(super) struct Cursor {
    rows: Arc<dyn Rows>,
    sample_age: SampleAge,
    selection: Selection,
    after: Option<Key>,
    until: Option<Key>,
    finished: bool,
    /// Whether the rows of a list of many are kept.
    keeper: Option<Box<dyn Keeper>>,
}

impl Cursor {
    /// Stands before the first row behind the key `after`.
    pub(super) fn new(
        rows: Arc<dyn Rows>,
        sample_age: SampleAge,
        selection: Selection,
        after: Option<Key>,
    ) -> Self {
        Self { rows, sample_age, selection, after, until: None, finished: false, keeper: None }
    }

    /// Whether all rows have been visited.
    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// From now on rows are kept, to be visited again.
    pub(super) fn keep(&mut self) {
        self.keeper.get_or_insert_with(|| self.rows.clone().keeper());
    }

    /// Whether rows are kept.
    pub(super) fn keeps(&self) -> bool {
        self.keeper.is_some()
    }

    /// Visits the rows that were kept, in order, until the visitor breaks; the next call goes on behind that.
    pub(super) fn again(&mut self, visit: &mut dyn FnMut(Row<'_>) -> ControlFlow<()>) {
        let Some(keeper) = &mut self.keeper else { return };
        match self.selection.resource {
            Resource::Nodes => keeper.nodes_again(&mut |row| visit(Row::Node(row))),
            Resource::Pods => keeper.pods_again(&mut |row| visit(Row::Pod(row))),
        }
    }

    /// Ends behind the row of this key, which may be gone by then.
    pub(super) fn end_at(&mut self, key: Key) {
        self.until = Some(key);
    }

    /// Finds where a page of `limit` rows ends, without moving.
    pub(super) fn page_end(&self, limit: usize) -> PageEnd {
        let probe =
            Self::new(self.rows.clone(), self.sample_age.clone(), self.selection.clone(), self.after.clone());
        PageEnd { probe, limit, count: 0, last: None }
    }

    /// Visits selected rows until the visitor breaks, a batch is done, or there are no more. Rows that
    /// appear behind the place in between are seen, others are not.
    pub(super) fn advance(&mut self, visit: &mut dyn FnMut(Row<'_>) -> ControlFlow<()>) {
        let rows = self.rows.clone();
        let after = self.after.take();
        let mut read = self.sample_age.read();
        let mut visit = |row: Row<'_>| {
            read.row(row.interval().0);
            visit(row)
        };
        // Who picks and who visits both note where they stopped; the visitor is the later one, and stops before.
        let stopped_at = RefCell::new(None);
        let (selection, until) = (&self.selection, self.until.as_ref());
        let mut visited = 0;
        let mut pick = |key: (&str, &str), labels: &Labels| {
            if visited == MOST_VISITED || until.is_some_and(|until| key > until.parts()) {
                return Pick::End;
            }
            visited += 1;
            if visited == MOST_VISITED {
                *stopped_at.borrow_mut() = Some(Key::new(key));
            }
            if selection.takes(key, labels) { Pick::Take } else { Pick::Skip }
        };
        let mut step = |row: Row<'_>| {
            let flow = visit(row);
            if flow.is_break() {
                *stopped_at.borrow_mut() = Some(Key::new(row.key()));
            }
            flow
        };
        let behind = |namespace, name| after.as_ref().is_none_or(|after| after.parts() < (namespace, name));
        // What is kept must be what is visited, and only keepers see to that.
        let name = selection.fields.name().filter(|_| self.keeper.is_none());
        match (selection.resource, selection.one_namespace(), name) {
            (Resource::Nodes, _, Some(name)) => {
                if behind("", name) {
                    rows.node(name, &mut |row| {
                        if pick(("", row.name), row.labels) == Pick::Take {
                            let _ = visit(Row::Node(row));
                        }
                    });
                    stopped_at.take();
                }
            }
            (Resource::Pods, Some(namespace), Some(name)) => {
                if behind(namespace, name) {
                    rows.pod(namespace, name, &mut |row| {
                        if pick((row.namespace, row.name), row.labels) == Pick::Take {
                            let _ = visit(Row::Pod(row));
                        }
                    });
                    stopped_at.take();
                }
            }
            (Resource::Nodes, ..) => {
                let after = after.as_ref().map(|key| key.name.as_str());
                let mut pick = |name: &str, labels: &Labels| pick(("", name), labels);
                let mut each = |row: &NodeRow<'_>| step(Row::Node(row));
                match &mut self.keeper {
                    Some(keeper) => keeper.nodes(after, &mut pick, &mut each),
                    None => rows.nodes(after, &mut pick, &mut each),
                }
            }
            (Resource::Pods, namespace, _) => {
                let after = after.as_ref().map(Key::parts);
                let mut each = |row: &PodRow<'_>| step(Row::Pod(row));
                match &mut self.keeper {
                    Some(keeper) => keeper.pods(namespace, after, &mut pick, &mut each),
                    None => rows.pods(namespace, after, &mut pick, &mut each),
                }
            }
        }
        let stopped_at = stopped_at.into_inner();
        self.finished = stopped_at.is_none();
        self.after = stopped_at;
    }
}
