//! Which containers a node runs: names alone, shared between snapshots for as long as they do not change.

use std::collections::HashMap;
use std::ops::Range;

/// Pods ordered by namespace and name, their containers by name, all text in one allocation.
#[derive(Debug, Default)]
pub(super) struct Layout {
    text: Box<str>,
    pods: Box<[Pod]>,
    containers: Box<[Container]>,
    /// Containers in the order of the body, which is that of the next body too unless one comes or goes.
    order: Box<[u32]>,
    /// Whether no name holds a character that is escaped in a label of an exposition.
    is_plain: bool,
}

/// A name in the text: its length in the low bits, where it begins above.
#[derive(Clone, Copy, Debug)]
struct Span(u32);

/// The longest name that Kubernetes allows (RFC 1123 subdomain), and the longest that a span can have.
pub(super) const MAX_NAME: usize = 253;
const LENGTH_BITS: u32 = 8;

#[derive(Debug)]
struct Pod {
    namespace: Span,
    name: Span,
    first: u32,
}

#[derive(Debug)]
struct Container {
    name: Span,
    pod: u32,
}

/// The names of a container; ordered as in the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Names<'a> {
    pub(super) namespace: &'a str,
    pub(super) pod: &'a str,
    pub(super) container: &'a str,
}

impl Layout {
    /// The layout of containers ordered by name, each once; `body_order` are indices into them.
    pub(super) fn new(ordered: &[Names<'_>], body_order: Box<[u32]>) -> Self {
        let mut text = String::new();
        let mut pods: Vec<Pod> = Vec::new();
        let mut containers = Vec::with_capacity(ordered.len());
        // Pods of a kind have containers of the same names: each is written once.
        let mut written: HashMap<&str, Span> = HashMap::new();
        let mut last: Option<Names<'_>> = None;
        for names in ordered {
            let same_namespace = last.is_some_and(|last| last.namespace == names.namespace);
            if !(same_namespace && last.is_some_and(|last| last.pod == names.pod)) {
                let namespace = match pods.last() {
                    Some(pod) if same_namespace => pod.namespace,
                    _ => append(&mut text, names.namespace),
                };
                let name = append(&mut text, names.pod);
                pods.push(Pod { namespace, name, first: index(containers.len()) });
            }
            let name = *written.entry(names.container).or_insert_with(|| append(&mut text, names.container));
            containers.push(Container { name, pod: index(pods.len() - 1) });
            last = Some(*names);
        }
        Self {
            is_plain: !text.contains(['"', '\\', '\n']),
            text: text.into_boxed_str(),
            pods: pods.into_boxed_slice(),
            containers: containers.into_boxed_slice(),
            order: body_order,
        }
    }

    /// How many pods there are.
    pub(super) fn pods(&self) -> usize {
        self.pods.len()
    }

    /// How many containers there are.
    pub(super) fn containers(&self) -> usize {
        self.containers.len()
    }

    /// Namespace and name of the pod in `row`.
    pub(super) fn pod(&self, row: usize) -> (&str, &str) {
        let pod = &self.pods[row];
        (self.text(pod.namespace), self.text(pod.name))
    }

    /// The pods of `other` that are not in this layout.
    pub(super) fn missing<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let rows = (0..other.pods()).map(|row| other.pod(row));
        rows.filter(|key| self.find_pod((key.0.as_bytes(), key.1.as_bytes())).is_none())
    }

    fn find_pod(&self, key: (&[u8], &[u8])) -> Option<usize> {
        self.pods
            .binary_search_by(|pod| {
                (self.text(pod.namespace).as_bytes(), self.text(pod.name).as_bytes()).cmp(&key)
            })
            .ok()
    }

    /// The containers of the pod in `row`.
    pub(super) fn containers_of(&self, row: usize) -> Range<usize> {
        let end = self.pods.get(row + 1).map_or(self.containers.len(), |pod| pod.first as usize);
        self.pods[row].first as usize..end
    }

    /// The name of a container alone.
    pub(super) fn container(&self, at: usize) -> &str {
        self.text(self.containers[at].name)
    }

    /// All names of a container.
    pub(super) fn names(&self, at: usize) -> Names<'_> {
        let (namespace, pod) = self.pod(self.containers[at].pod as usize);
        Names { namespace, pod, container: self.container(at) }
    }

    /// The container that a body like the last one has at the position `cursor`, if its names stand there as they are.
    pub(super) fn expected(&self, cursor: usize) -> Option<usize> {
        if self.is_plain { self.order.get(cursor).map(|at| *at as usize) } else { None }
    }

    /// Finds a container by its names as bytes. `cursor` is the position in the order of the body where it
    /// is expected; a hit moves it on.
    pub(super) fn find(&self, names: [&[u8]; 3], cursor: &mut usize) -> Option<usize> {
        /// How many containers may have gone between two that stayed before a search is cheaper.
        const AHEAD: usize = 4;
        let expected = self.order.get(*cursor..).unwrap_or_default();
        for (ahead, at) in expected.iter().take(AHEAD).enumerate() {
            let at = *at as usize;
            if self.bytes(at) == names {
                *cursor += ahead + 1;
                return Some(at);
            }
        }
        let [namespace, pod, container] = names;
        let row = self.find_pod((namespace, pod))?;
        // Searched, not walked through: how many containers a pod has is up to the kubelet.
        let of_pod = self.containers_of(row);
        let found = self.containers[of_pod.clone()]
            .binary_search_by(|other| self.text(other.name).as_bytes().cmp(container));
        found.ok().map(|at| of_pod.start + at)
    }

    /// Namespace, pod and container as bytes.
    pub(super) fn bytes(&self, at: usize) -> [&[u8]; 3] {
        let Names { namespace, pod, container } = self.names(at);
        [namespace.as_bytes(), pod.as_bytes(), container.as_bytes()]
    }

    fn text(&self, span: Span) -> &str {
        let start = (span.0 >> LENGTH_BITS) as usize;
        let length = (span.0 & ((1 << LENGTH_BITS) - 1)) as usize;
        &self.text[start..start + length]
    }
}

/// Appends a name; one that does not fit, which the caller's bounds rule out, is empty.
fn append(text: &mut String, name: &str) -> Span {
    let start = index(text.len());
    if name.len() > MAX_NAME || start >> (u32::BITS - LENGTH_BITS) != 0 {
        return Span(0);
    }
    text.push_str(name);
    Span(start << LENGTH_BITS | index(name.len()))
}

/// Saturates where nothing real reaches: the caller bounds containers and the length of names.
fn index(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
