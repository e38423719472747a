//! The version of the ABI.

/// The version of the plugin API that this crate belongs to.
///
/// `infrarust-plugin-api` and this crate have the same version. While it is `0.x.y`, a
/// change of `x` may break plugins and a change of `y` only adds to the API. From 1.0
/// on, only a change of the first number may break plugins.
pub const API_VERSION: Version = Version::new(0, 1, 2);

/// Three numbers, compared in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The first number.
    pub major: u16,
    /// The second.
    pub minor: u16,
    /// The third.
    pub patch: u16,
}

impl Version {
    /// A version of three numbers.
    #[must_use]
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self {
            major,
            minor,
            patch,
        }
    }

    /// The later of two versions.
    #[must_use]
    pub const fn max(self, other: Self) -> Self {
        // Tuples cannot be compared in a constant yet.
        let own = ((self.major as u64) << 32) | ((self.minor as u64) << 16) | self.patch as u64;
        let others =
            ((other.major as u64) << 32) | ((other.minor as u64) << 16) | other.patch as u64;
        if own < others { other } else { self }
    }

    /// Whether `self` and `other` are compatible: the numbers whose change may break
    /// plugins are equal.
    #[must_use]
    pub const fn same_abi(self, other: Self) -> bool {
        self.major == other.major && (self.major > 0 || self.minor == other.minor)
    }
}

impl core::fmt::Display for Version {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The constant is the version that Cargo knows.
    #[test]
    fn the_constant_is_the_version_of_the_crate() {
        assert_eq!(API_VERSION.to_string(), env!("CARGO_PKG_VERSION"));
    }

    /// Below 1.0 the second number may break, from 1.0 on only the first.
    #[test]
    fn only_the_breaking_number_counts() {
        let v = Version::new;
        assert!(v(0, 1, 0).same_abi(v(0, 1, 7)));
        assert!(!v(0, 1, 0).same_abi(v(0, 2, 0)));
        assert!(v(1, 0, 0).same_abi(v(1, 3, 0)));
        assert!(!v(1, 0, 0).same_abi(v(2, 0, 0)));
        assert_eq!(v(0, 1, 9).max(v(0, 2, 0)), v(0, 2, 0));
        assert_eq!(v(1, 0, 0).max(v(0, 9, 9)), v(1, 0, 0));
    }
}
