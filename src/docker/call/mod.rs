//! The calls, one file for each family of endpoints.

pub(super) mod archive;
pub(super) mod containers;
pub(super) mod images;
pub(super) mod lifecycle;
pub(super) mod networks;
pub(super) mod system;
pub(super) mod transfer;

use crate::client::Client;
use crate::types::{ContainerSpec, Filters, WaitCondition};

/// Compile-time check: the futures of calls are `Send`, so they can be spawned.
const _: fn(&Client) = |client| {
    fn assert_send(_: impl Send) {}
    let (filters, spec) = (Filters::new(), ContainerSpec::default());
    let options = transfer::BuildOptions::default();
    assert_send(client.ping());
    assert_send(client.events(&filters));
    assert_send(client.create_container("a", &spec));
    assert_send(client.attach("a"));
    assert_send(client.begin_wait("a", WaitCondition::NextExit));
    assert_send(client.import_image("a", "b", &[], tokio::io::empty(), &mut |_| {}));
    assert_send(client.build_image(&options, bytes::Bytes::new(), &mut |_| {}));
};
