//! The words that the log and plugins have for the end of a connection.

/// Makes the method that gives each value its word, and in tests the list `NAMES` of
/// these words, which is compared with the documents. Values after `else` have the
/// word of what they contain.
macro_rules! names {
    (@list $($name:literal)+) => {
        /// Every word that `name` itself gives.
        #[cfg(test)]
        pub(crate) const NAMES: &[&str] = &[$($name),+];
    };
    (
        $(#[$attribute:meta])*
        $vis:vis const fn name($self:ident) {
            $($pattern:pat => $name:literal,)+
        }
    ) => {
        names! { @list $($name)+ }

        $(#[$attribute])*
        $vis const fn name($self) -> &'static str {
            match $self { $($pattern => $name,)+ }
        }
    };
    (
        $(#[$attribute:meta])*
        $vis:vis fn name(&$self:ident) {
            $($pattern:pat $(if $guard:expr)? => $name:literal,)+
        }
        $(else { $($other:pat => $delegated:expr,)+ })?
    ) => {
        names! { @list $($name)+ }

        $(#[$attribute])*
        $vis fn name(&$self) -> &'static str {
            match $self {
                $($pattern $(if $guard)? => $name,)+
                $($($other => $delegated,)+)?
            }
        }
    };
}

pub(crate) use names;
