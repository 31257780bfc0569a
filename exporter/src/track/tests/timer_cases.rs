//! Timers: as few as there is to look at.

use super::world::{POD_A, World};

#[test]
fn an_attempt_that_is_over_leaves_nothing_to_look_at() {
    let mut world = World::new();
    for port in 0..100 {
        let conn = world.conn(1 + u64::from(port), POD_A, 34_000 + port, 46_000 + port);
        world.open(&conn);
        world.close(&conn, 100, true);
    }
    assert!(world.tracker.looks() <= 200, "{}", world.tracker.looks());
    world.wait_ms(5_000);
    assert_eq!(world.drain().len(), 100);
    assert_eq!(world.tracker.looks(), 0);
}
