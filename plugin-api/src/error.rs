//! Errors of plugins.

use std::error::Error as StdError;
use std::fmt;
use std::ops::Range;

/// The result of most functions of a plugin.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a plugin.
///
/// Every [`std::error::Error`] converts to it with `?`. It does not implement that trait
/// itself, as the conversion would then be ambiguous.
pub struct Error {
    inner: Box<dyn StdError + Send + Sync>,
    span: Option<Range<usize>>,
}

impl Error {
    /// An error with this text: lower case, without a final period.
    #[must_use]
    pub fn msg(text: impl Into<String>) -> Self {
        Self {
            inner: text.into().into(),
            span: None,
        }
    }

    /// An error in the plugin's configuration, at this span of bytes.
    ///
    /// The span comes from a [`Spanned`](crate::Spanned) value; the proxy shows the place
    /// in the operator's own file. Only for [`Plugin::new`](crate::Plugin::new).
    #[must_use]
    pub fn at(span: Range<usize>, text: impl Into<String>) -> Self {
        Self {
            inner: text.into().into(),
            span: Some(span),
        }
    }

    pub(crate) fn span(&self) -> Option<Range<usize>> {
        self.span.clone()
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        Self {
            inner: Box::new(error),
            span: None,
        }
    }
}

/// The error and all its sources, separated by colons.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// The most sources that are shown. A longer chain is probably a cycle.
        const SOURCES_MAX: usize = 16;
        self.inner.fmt(f)?;
        let mut source = self.inner.source();
        for _ in 0..SOURCES_MAX {
            let Some(error) = source else { break };
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A text and a chain of sources both show everything.
    #[test]
    fn errors_show_their_sources() {
        let error: Error = std::io::Error::other("disk on fire").into();
        assert_eq!(error.to_string(), "disk on fire");
        assert_eq!(Error::at(2..3, "no").span(), Some(2..3));
        let parse: Error = "x".parse::<u8>().unwrap_err().into();
        assert!(parse.to_string().contains("invalid digit"));
    }
}
