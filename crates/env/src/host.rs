//! Which machine this is.

use std::sync::Arc;

/// By Linux's id of the boot (`random(4)`) and the mount namespace (`namespaces(7)`): containers have namespaces of their own.
#[allow(clippy::disallowed_methods, reason = "the production side of the seam, once at a process' start")]
pub(crate) fn host() -> Option<Arc<str>> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let mounts = std::fs::read_link("/proc/self/ns/mnt").ok()?;
    Some(format!("{} {}", boot.trim(), mounts.display()).into())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_machine_keeps_its_name() {
        let host = super::host();
        assert_eq!(host, super::host());
        assert!(host.is_none_or(|host| host.is_ascii() && host.len() > 36));
    }
}
