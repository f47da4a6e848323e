//! The cursor of `C_FindObjects`. `C_FindObjectsInit` determines the results: objects created or destroyed later do not
//! change them (spec, "C_FindObjectsInit").

use super::ObjectHandle;

/// A search in progress.
#[derive(Debug, Default)]
pub(crate) struct Search {
    found: Vec<ObjectHandle>,
    position: usize,
}

impl Search {
    /// Starts at the first result.
    pub(crate) fn new(found: Vec<ObjectHandle>) -> Self {
        Self { found, position: 0 }
    }

    /// The next results, at most `max_count`; none at the end, in repeated calls too.
    pub(crate) fn next(&mut self, max_count: usize) -> Vec<ObjectHandle> {
        let rest = &self.found[self.position..];
        let taken = &rest[..max_count.min(rest.len())];
        self.position += taken.len();
        taken.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_object_is_returned_once() {
        let all: Vec<ObjectHandle> = (1..=5).map(ObjectHandle).collect();
        let mut search = Search::new(all.clone());
        assert_eq!(search.next(0), vec![]);
        assert_eq!(search.next(2), all[..2]);
        assert_eq!(search.next(usize::MAX), all[2..]);
        assert_eq!(search.next(1), vec![]);
    }
}
