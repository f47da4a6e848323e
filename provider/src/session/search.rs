//! The cursor of `C_FindObjects`. All that was found is known at `C_FindObjectsInit`: objects made or destroyed while
//! the application walks change nothing (spec, "C_FindObjectsInit").

use super::ObjectHandle;

/// A search in progress.
#[derive(Debug, Default)]
pub(crate) struct Search {
    found: Vec<ObjectHandle>,
    given: usize,
}

impl Search {
    /// Starts at the first of what was found.
    pub(crate) fn over(found: Vec<ObjectHandle>) -> Self {
        Self { found, given: 0 }
    }

    /// The next ones, at most `most`; none at the end, however often it is asked.
    pub(crate) fn next(&mut self, most: usize) -> Vec<ObjectHandle> {
        let rest = &self.found[self.given..];
        let taken = &rest[..most.min(rest.len())];
        self.given += taken.len();
        taken.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_object_comes_once() {
        let all: Vec<ObjectHandle> = (1..=5).map(ObjectHandle).collect();
        let mut search = Search::over(all.clone());
        assert_eq!(search.next(0), vec![]);
        assert_eq!(search.next(2), all[..2]);
        assert_eq!(search.next(usize::MAX), all[2..]);
        assert_eq!(search.next(1), vec![]);
    }
}
