"""What no run here injects: faults that a test shows by itself, faults for which the means are missing, and the promises."""

from __future__ import annotations

SHOWN: tuple[tuple[str, str, str], ...] = (
    ("F-10", "three brokers restarted one after the other",
     "tests/integration/test_real_cluster.py::"
     "test_brokers_are_restarted_one_after_the_other_under_a_fleet_that_goes_on"),
    ("F-11", "a leader that is killed, and too few copies to write to",
     "tests/integration/test_real_cluster.py"),
    ("F-17", "serialization failures and deadlocks",
     "tests/integration/test_postgres.py::test_a_serialization_failure_at_commit_is_a_conflict_and_the_same_work_succeeds"),
    ("F-18b", "a replica of PostgreSQL is promoted: one that has everything, and one that was behind",
     "tests/integration/test_real_failover.py"),
    ("F-19", "a second worker on one SQLite file", "tests/contract/test_store.py::test_a_former_owner_commits_nothing"),
    ("F-21b", "a full disk, on SQLite", "tests/unit/test_sqlite.py::test_a_full_disk_is_the_databases_own_trouble"),
    ("F-22, F-24", "a registry that is away at the start, or knows no such schema",
     "tests/integration/test_registry.py::test_without_registry_and_cache_it_is_waited_for_and_never_taken_for_an_unknown_schema"),
    ("F-26, F-27, F-29", "poison: what is not Avro, what does not validate, what kills the decoder",
     "tests/integration/test_poison_topics.py::test_good_workflows_end_and_each_bad_record_is_where_it_should_be"),
    ("F-28, F-39", "handlers and compensations that raise", "tests/integration/test_real_failure_classes.py"),
    ("F-30, F-37, F-41", "repeated, reordered and overtaking records, under seeded chaos",
     "tests/simulation/test_fleet.py::test_whatever_happens_every_workflow_ends_once_and_whole"),
    ("F-31", "an event too large to be published",
     "tests/unit/test_engine.py::test_an_event_that_could_never_be_published_is_refused_before_anything_is_committed"),
    ("F-32, F-33", "a topic deleted and made again under a running fleet, in a group and without one",
     "tests/integration/test_real_lost.py::"
     "test_a_topic_deleted_and_made_again_under_a_running_fleet_is_noticed_reported_and_repaired"),
    ("F-34", "a partition count that was raised",
     "tests/contract/test_store.py::test_another_partition_count_is_refused_and_changes_nothing"),
    ("F-35, F-43", "records deleted under a stopped participant",
     "tests/integration/test_real_lost.py::test_records_deleted_under_a_stopped_participant_are_noticed_skipped_and_sent_again"),
    ("F-36", "two relays at once, after a lost lock",
     "tests/integration/test_real_takeover.py"),
    ("F-40", "a timer races with the completion", "tests/integration/test_real_timers.py"),
    ("F-42", "a rebuild beside live traffic",
     "tests/services/test_rebuild_real.py::test_a_rebuild_beside_a_living_service_takes_its_place_without_loss"),
    ("F-44", "workflows that are pruned, and whose records come again",
     "tests/unit/test_pruning.py::test_records_that_come_again_afterwards_are_kept_and_nothing_is_done_twice"),
    ("F-46", "rights and passwords at Kafka that are taken away, and given back",
     "tests/integration/test_real_rights.py"),
    ("F-48", "a million events wait, memory is bounded",
     "tests/integration/test_real_memory.py::test_a_participant_with_a_million_events_waiting_stays_below_200_megabytes"),
)  # fmt: skip

MISSING: tuple[tuple[str, str, str], ...] = (
    ("F-6", "cooperative-sticky rebalances", "it tears the twin partitions of a lane apart, so it is not offered"),
    ("F-38", "versions side by side while they are deployed", "no fault: a way of working, with tests of its own"),
)  # fmt: skip

PROMISES: tuple[tuple[str, str, str], ...] = (
    ("P1", "state and outgoing events are committed together or not at all, and what is committed is published",
     "tests/crash/test_failpoints_real.py::test_a_fleet_killed_at_these_places_loses_nothing_and_does_nothing_twice"),
    ("P2", "an effect in the participant's own database happens once",
     "tests/simulation/test_fleet.py::test_whatever_happens_every_workflow_ends_once_and_whole"),
    ("P3", "records come again after a crash alone, as many as were under way", "tests/crash/test_faults.py"),
    ("P4", "events of one workflow from one participant are first published in the order of their commits",
     "tests/integration/test_postgres_engine.py::test_events_of_a_web_request_and_of_the_lane_are_published_in_order_of_their_numbers"),
    ("P5", "every workflow ends completed, compensated, or parked with a reason",
     "tests/simulation/test_fleet.py::test_whatever_happens_every_workflow_ends_once_and_whole"),
    ("P6", "lanes of a killed process are taken over once the group has noticed",
     "tests/integration/test_real_takeover.py"),
    ("P7", "a broker that is killed loses nothing that was acknowledged",
     "tests/services/test_servers_away.py::"
     "test_a_fleet_from_which_each_server_is_taken_away_for_20_s_needs_no_restart_and_its_audit_is_clean"),
    ("P8", "not promised: isolation between sagas, order across workflows, once-only effects in foreign systems, what Kafka "
     "loses for good", "-"),
)  # fmt: skip
