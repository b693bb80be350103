//! A sorted set that costs next to nothing while it has few members, as most sets of the indexes do.

use std::{collections::BTreeSet, slice};

/// Most members of a plain list: up to here shifting them is cheaper than a tree.
const FEW: usize = 16;

/// A sorted set: two words, as there are several for each identity and group.
#[derive(Debug, Clone)]
pub(crate) enum Set<T> {
    /// Up to [`FEW`] members, sorted.
    Few(Box<[T]>),
    /// More, or more once. A tree's own words would make every small set larger.
    #[expect(clippy::box_collection)]
    Many(Box<BTreeSet<T>>),
}

/// The members of a [`Set`], ascending.
pub(crate) type Iter<'a, T> =
    std::iter::Chain<slice::Iter<'a, T>, std::iter::Flatten<std::option::IntoIter<&'a BTreeSet<T>>>>;

impl<T> Default for Set<T> {
    fn default() -> Self {
        Self::Few(Box::default())
    }
}

impl<T: Ord> Set<T> {
    /// Adds a member; says whether it is new.
    pub fn insert(&mut self, member: T) -> bool {
        match self {
            Self::Few(few) => {
                let Err(at) = few.binary_search(&member) else { return false };
                let mut list = std::mem::take(few).into_vec();
                *self = if list.len() < FEW {
                    list.reserve_exact(1);
                    list.insert(at, member);
                    Self::Few(list.into())
                } else {
                    Self::Many(Box::new(list.into_iter().chain([member]).collect()))
                };
                true
            }
            Self::Many(many) => many.insert(member),
        }
    }

    /// Removes a member; says whether it was there.
    pub fn remove(&mut self, member: &T) -> bool {
        match self {
            Self::Few(few) => {
                let Ok(at) = few.binary_search(member) else { return false };
                let mut list = std::mem::take(few).into_vec();
                list.remove(at);
                *few = list.into();
                true
            }
            Self::Many(many) => {
                let was = many.remove(member);
                if many.len() <= FEW / 2 {
                    *self = Self::Few(std::mem::take(&mut **many).into_iter().collect());
                }
                was
            }
        }
    }

    /// Whether it has this member.
    pub fn contains(&self, member: &T) -> bool {
        match self {
            Self::Few(few) => few.binary_search(member).is_ok(),
            Self::Many(many) => many.contains(member),
        }
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Few(few) => few.len(),
            Self::Many(many) => many.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The members of both, ascending, in steps of the smaller one.
    pub fn common<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a T> {
        let (small, large) = if self.len() < other.len() { (self, other) } else { (other, self) };
        small.iter().filter(|member| large.contains(member))
    }

    /// Whether no member is in both.
    pub fn is_disjoint(&self, other: &Self) -> bool {
        self.common(other).next().is_none()
    }

    /// The first member that is not below `least`.
    pub fn first_from(&self, least: &T) -> Option<&T> {
        match self {
            Self::Few(few) => few.get(few.partition_point(|member| member < least)),
            Self::Many(many) => many.range(least..).next(),
        }
    }

    /// The members, ascending.
    pub fn iter(&self) -> Iter<'_, T> {
        let (few, many) = match self {
            Self::Few(few) => (&few[..], None),
            Self::Many(many) => (&[][..], Some(&**many)),
        };
        few.iter().chain(many.into_iter().flatten())
    }
}

impl<'a, T: Ord> IntoIterator for &'a Set<T> {
    type Item = &'a T;
    type IntoIter = Iter<'a, T>;
    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T: Ord> FromIterator<T> for Set<T> {
    fn from_iter<I: IntoIterator<Item = T>>(members: I) -> Self {
        let mut set = Self::default();
        for member in members {
            set.insert(member);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_is_small() {
        assert_eq!(size_of::<Set<u32>>(), 2 * size_of::<usize>());
    }

    proptest! {
        #[test]
        fn it_is_a_set(steps in prop::collection::vec((any::<bool>(), 0u8..40), 0..200)) {
            let (mut set, mut reference) = (Set::default(), BTreeSet::new());
            for (add, member) in steps {
                let changed = if add { set.insert(member) } else { set.remove(&member) };
                prop_assert_eq!(changed, if add { reference.insert(member) } else { reference.remove(&member) });
                prop_assert_eq!(set.contains(&member), add);
                prop_assert_eq!(set.first_from(&member), reference.range(member..).next());
                prop_assert_eq!((set.len(), set.is_empty()), (reference.len(), reference.is_empty()));
                prop_assert!(set.iter().eq(&reference));
            }
        }
    }
}
