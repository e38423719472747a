//! Capabilities as types, so that a missing declaration does not compile.

use crate::Capability;

/// A capability as a type; see [`capability`].
pub trait Cap: 'static {
    /// The capability.
    const ID: Capability;
}

/// The plugin has listed the capability `C` in `needs` or `wants`.
///
/// [`export_plugin!`](crate::export_plugin) implements it.
#[diagnostic::on_unimplemented(
    message = "the plugin `{Self}` did not declare the capability `{C}`",
    label = "not declared",
    note = "add it to `needs: [...]` in `export_plugin!` (or to `wants: [...]`, if the plugin can do without it); the proxy then checks that the mode of each server offers it"
)]
pub trait Declares<C: Cap> {}

macro_rules! make {
    ($(
        $(#[doc = $doc:literal])+
        $name:ident = $bit:literal, $id:literal, $kind:ident $($gives:literal)?,
            stage $stage:ident, since $since:tt $(, served $served:tt)?;
    )+) => {
        /// One type per capability, with the names of [`Capability`].
        pub mod capability {
            $(
                #[doc = concat!("The type of [`Capability::", stringify!($name), "`](crate::Capability::", stringify!($name), ").")]
                #[derive(Debug, Clone, Copy)]
                pub struct $name;
                impl crate::Cap for $name {
                    const ID: crate::Capability = crate::Capability::$name;
                }
            )+
        }

        #[cfg(test)]
        const ALL: &[Capability] = &[$(<capability::$name as Cap>::ID),+];
    };
}

infrarust_plugin_abi::capabilities! { [make] }

#[cfg(test)]
mod tests {
    /// No capability is without its type.
    #[test]
    fn every_capability_has_a_type() {
        assert_eq!(super::ALL, super::Capability::ALL);
    }
}
