"""Which tests `scripts/test` leaves out, because they take much processor time. `scripts/test --all` and CI run them.

Most are further schedulers, movers, HTTP servers, sizes and names of what stays tested with one of them, and crowds.
Some are all that there is of their subject: examples of users' pages, faults during transfers, readers of settings,
the benchmark's report, the server without a log or standard streams, limits of memory and arrays of the local
scheduler, movers on nodes that have only curl. Run those by their paths when you change what they test.
A pattern is that of the rest of a test's id, from its start. tests/unit/test_thorough.py compares names with the files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache

import pytest

OTHERS = r".*\[(pbs|tinyq|local)\b"  # the scheduler that is always tested is Slurm
UVICORN = r".*\[uvicorn"  # the HTTP server that is always tested is granian

THOROUGH: Mapping[str, Sequence[str]] = {
    "tests/contract/files/test_changes.py": (r"test_archives_keep_the_top_folder\[\w+-(bzip2|xz|none)",),
    "tests/contract/files/test_files.py": (
        r"test_tail_of_long_files.*\[local",
        "test_any_byte_sequence_is_a_valid_name",
        r"test_sizes_round_trip\[\w+-5000000",
    ),
    "tests/contract/files/test_listing.py": ("test_many_entries",),
    "tests/contract/files/test_more_files.py": ("test_all_operations_accept_any_name",),
    "tests/contract/files/test_times.py": (
        r"test_touch_sets_times.*\[(commands|local)-5",
        r"test_listings_show_true_times\[(?!sandbox-True)",
    ),
    "tests/contract/schedulers/test_cluster.py": (OTHERS,),
    "tests/contract/schedulers/test_jobs.py": (
        r"test_finished_job\[(pbs|tinyq|local)-3",
        rf"(?!test_(finished_job|refused_submission)\b){OTHERS}",
        "test_a_job_that_was_held_until",
        "test_a_jobs_own_comment_and_input_stay",
        "test_job_of_another_cluster_is_not_taken",
        r"test_jobs_by_any_name\[\w+-(?!it)",
        "test_submission_that_waits",
        "test_a_new_key_waits",
        "test_job_ids_are_unique",
        "test_paths_in_the_metadata",
    ),
    "tests/contract/schedulers/test_once.py": (
        "test_requests_at_the_same_moment",
        r"test_a_job_of_another_cluster_takes_no_key\[job[12]",
        OTHERS,
        "test_a_batch",
        "test_a_key_finds_a_job_that_only_the_accounting_knows",
        "test_a_submission_that_still_runs",
    ),
    "tests/contract/schedulers/test_pbs.py": (
        "test_holding_releasing_and_waiting",
        "test_other_users_jobs",
        "test_a_job_over_its_time_limit",
        "test_a_marked_job",
    ),
    "tests/contract/schedulers/test_plugin_output.py": (r"test_every_answer_is_found_among_other_lines\[pbs",),
    "tests/contract/schedulers/test_shared_reads.py": (
        "test_a_service_account_that",
        "test_users_who_poll",
    ),
    "tests/contract/transfer/test_transfers.py": (
        rf"(?!test_mv\b){OTHERS}",
        r"test_(archive_round_trip|cp_of_a_tree|missing_source)\[slurm",
        r"test_archive_of_any_compression\[bash-(xz|bzip2)",
        r"test_repeated_request_with_a_key\[slurm",
    ),
    "tests/unit/audit/test_failing.py": (
        "test_a_flood_of_denials",
        "test_what_was_left_out",
    ),
    "tests/unit/audit/test_misbehaving.py": ("test_too_little_memory",),
    "tests/unit/auth/authorization/test_openfga_items.py": (
        "test_a_server_without_batch_check_is_asked_singly.(?!501)",
    ),
    "tests/unit/auth/introspection/test_endpoint.py": ("test_many_made_up_tokens",),
    "tests/unit/auth/introspection/test_flood.py": ("test_one_network_alone_has_all_the_room",),
    "tests/unit/auth/test_issuers.py": ("test_ten_thousand_distinct_bad_tokens",),
    "tests/unit/bench/test_capacity.py": (
        "test_rate_is_that_of_the_users",
        "test_table_of_the_operators_page",
    ),
    "tests/unit/bench/test_report.py": (
        r"test_(bars|curves)_of",
        "test_every_plot_is",
        "test_json_of",
        "test_markdown",
        "test_page_contains",
        "test_plots_show",
    ),
    "tests/unit/cli/serving/test_stop.py": ("test_sigterm_ends_tails_at_once",),
    "tests/unit/cli/test_authority.py": ("test_a_new_key_may_have_a_passphrase",),
    "tests/unit/cli/test_commands.py": (r"test_without_the_server_extra\[arguments[12]",),
    "tests/unit/cli/test_connect.py": (
        r"test_check_connect_command\[bob",
        r"test_issuer_errors\[(garbage|hang)",
    ),
    "tests/unit/cli/test_rules.py": (r"test_explain\[request_[3-9]",),
    "tests/unit/cli/test_serve.py": (
        "test_a_log_on_a_full_disk",
        "test_other_signals",
        r"test_signal_shuts_down_gracefully\[2",
        "test_signals_during",
        "test_closed_standard_streams",
        "test_failing_startup",
    ),
    "tests/unit/cli/test_store_check.py": ("test_stores",),
    "tests/unit/cli/workers/test_serving.py": ("test_workers_share_their_key",),
    "tests/unit/http/core/test_json_body.py": ("test_a_request_with_too_many_values",),
    "tests/unit/http/edge/test_edge.py": (
        "test_a_prefix",
        "test_documentation_names_the_configured_servers",
        "test_responses_are_no_pages",
        "test_the_documentation_logs_in_where_discovery",
        r"test_the_front_page\[/",
        "test_the_documentation_logs_in_at",
    ),
    "tests/unit/http/files/test_upload.py": ("test_body_split_into_chunks",),
    "tests/unit/sandbox/test_slurm_recorded.py": (
        "test_failed_jobs",
        "test_array",
        "test_held_job",
        r"test_output_equals_the_recording\[\d*[1-46-9]\]",
        r"test_output_equals_the_recording_when_a_service_is_down\[controller",
    ),
    "tests/unit/schedulers/local/test_faults.py": (
        "test_killed_submissions",
        r"test_names\[(?!it's)",
        r"test_refusals\[wrong\d[1-9]",
        "test_old_jobs_leave",
    ),
    "tests/unit/schedulers/local/test_queue.py": (
        "test_an_array_of_ten_thousand",
        "test_memory_limit",
        "test_signal_before_the_time_limit",
        "test_an_array_runs_some",
        "test_singletons_run",
        "test_suspend_and_resume",
        "test_what_the_state_of_a_job",
    ),
    "tests/unit/schedulers/pbs/test_jobs.py": (r"test_(every_job_of|the_line_reader).*\[master",),
    "tests/unit/schedulers/reading/test_joint_queues.py": (
        "test_no_answer_is_too_old",
        "test_private_jobs",
    ),
    "tests/unit/schedulers/reading/test_merged_jobs.py": (r"test_whatever_happens.*\[[2-5]\d",),
    "tests/unit/schedulers/reading/test_refresh.py": (
        "test_a_thousand_pollers",
        "test_users_who_poll_about_once",
    ),
    "tests/unit/schedulers/test_cli_lists.py": ("test_rows_are_remembered",),
    "tests/unit/schedulers/test_job_environment.py": ("test_variables_that_no_program_can",),
    "tests/unit/settings/test_hostile.py": (
        r"test_a_bomb_is_one_clear_problem\[text(1|5)-",
        r"test_a_bomb_is_one_clear_problem\[text2[56]",
    ),
    "tests/unit/settings/test_use.py": ("test_setting_is_read_by_its_declared_reader",),
    "tests/unit/ssh/accelerate/test_bulk_data.py": (r".*\[asyncio-",),
    "tests/unit/ssh/accelerate/test_seam.py": (r".*\[asyncio-",),
    "tests/unit/ssh/channels/test_early_results.py": ("test_the_output_of_all_programs",),
    "tests/unit/ssh/channels/test_stream.py": (r".*\[asyncssh",),
    "tests/unit/ssh/credentials/test_certificates.py": ("test_no_text_breaks",),
    "tests/unit/ssh/pool/test_fairness.py": (
        r"test_a_limit_of_processes.*\[accelerated-10",
        "test_nothing_waits_for",
    ),
    "tests/unit/ssh/pool/test_node_simulation.py": (r"test_a_node_that_is_ten_times_slower.*\[[12]",),
    "tests/unit/ssh/pool/test_pool.py": (
        r".*\[asyncssh",
        r"test_the_servers_limit_of_channels.*\[accelerated-3",
    ),
    "tests/unit/ssh/queue/test_pace.py": (
        r"test_as_many_are_served.*\[constant-(18|7)-4",
        r".*\[(exponential|mixed|uniform)",
    ),
    "tests/unit/test_distribution.py": ("test_contents",),
    "tests/unit/transfer/jobs/test_jobs.py": (
        r"test_missing_source_fails_for_any_name\[(?!\\n#SBATCH)",
        "test_every_job_accepts_any_name",
    ),
    "tests/unit/transfer/jobs/test_kills.py": (r"test_killed_job\[(?!replaces)",),
    "tests/unit/transfer/s3/test_mover_scripts.py": (
        r"test_a_target_that_became_something_else\[(?!link)",
        "test_a_store_whose_tags_are_no_md5",
        "test_an_end_that_is_there_stays",
        r"test_the_old_file_stays\[gone",
        r"test_a_file_that_changes_while_it_is_sent\[(?!size)",
        "test_a_store_that_fails_for_a_while",
        "test_many_parts_that_end",
        r"test_the_old_file_stays\[(?!checksum|gone)",
    ),
    "tests/unit/transfer/streamer/test_own_client.py": (
        r".*\[(5242883|16777223)\]",
        "test_an_interrupted_upload",
        "test_a_file_that_changes",
    ),
    "tests/unit/transfer/test_archive.py": (
        r".*\[(xz|bzip2)",
        "test_any_name_round_trips",
    ),
    "tests/unit/transfer/trees/test_sync.py": (r".*\[two clusters",),
    "tests/unit/wiring/test_garbage.py": ("test_requests_are_freed",),
    "tests/unit/wiring/test_gateway.py": (r"test_probes_that_cannot.*\[(?!key is refused)",),
    "tests/v2/store/test_faults.py": ("",),
    "tests/v2/store/test_silent.py": ("",),
    "tests/v2/store/test_stop.py": ("",),
    "tests/v2/store/test_transfers.py": (
        r"test_the_digest_that_a_client_gives\[job",
        r".*-(12582913|0)\]",
        r".*\[gateway\]",
        "test_a_copy_that",
        r"test_the_digest_that_a_client_gives\[\w+-True",
        "test_upload_replaces_a_file",
        "test_a_download_says",
    ),
    "tests/v2/test_between_kills.py": ("",),
    "tests/v2/test_between_systems.py": (
        "test_a_job_that_is_refused",
        "test_a_folder_goes",
        "test_a_folder_that_is_copied_again",
        "test_example_of_a_copy_on_the_page",
        "test_jobs_of_the_scheduler",
        "test_systems_with_one_home",
        "test_a_folder_is_copied_into",
    ),
    "tests/v2/test_bulk.py": ("test_a_thousand",),
    "tests/v2/test_bulk_upload.py": (
        r"test_sparse\[sandbox-(posix|0\.0)",
        r"test_members_outside.*entries(\d|1[0-2])\]",
        "test_truncated_anywhere",
    ),
    "tests/v2/test_files_page.py": ("",),
    "tests/v2/test_following_jobs.py": (
        "test_no_job_follows",
        r"test_a_job_follows_a_transfer_job\[sandbox-(mv|compress)",
        "test_a_job_follows_an_upload",
    ),
    "tests/v2/test_hostile_names.py": (
        "test_every_operation(?!.*pwned)",
        "test_every_transfer_job",
    ),
    "tests/v2/test_hostile_requests.py": (
        r"test_invalid_documents\[sandbox-(?!POST (/ops/upload|/compute/S/jobs)\])",
        "test_unsupported_methods",
    ),
    "tests/v2/test_job_life.py": (
        "test_the_end_of_a_large_output",
        "test_an_array",
        "test_many_jobs",
        "test_a_held_job",
    ),
    "tests/v2/test_large_faults.py": ("",),
    "tests/v2/test_large_files.py": (
        r"test_wrong_parts_do_not_count\[.*headers[4567]",
        r"test_aborted_uploads.*job\]",
        r"test_list_of_parts_is_compared\[.*-(not valid|another ETag|no such part)",
        r"test_pyfirecrest_uploads_and_downloads\[\w+-(5000000|0)",
    ),
    "tests/v2/test_large_orders.py": ("",),
    "tests/v2/test_node_transfers.py": (
        "test_a_job_is_running",
        "test_a_request_that_is_repeated",
        "test_a_transfer_is_shown",
        "test_examples_of_the_streamer",
        "test_wormhole",
    ),
    "tests/v2/test_pyfirecrest.py": (
        r".*\[sandbox-async",
        "test_attach_and_cancel",
        "test_a_script_on_the_cluster",
    ),
    "tests/v2/test_pyfirecrest_schedulers.py": ("",),
    "tests/v2/test_tracked_transfers.py": (
        "test_the_log_of_a_gateway",
        "test_a_damaged_record",
        "test_a_folder_is_synchronized",
    ),
    "tests/v2/test_transfer_keys.py": (r".*\[sandbox-(upload|download|list|empty|nothing)",),
    "tests/v2/test_tus.py": (
        "test_a_stock_client.*False",
        "test_checksum.*(sha1|md5)",
        r"test_any_name\[(?!.*x\))",
    ),
    "tests/v2/test_user_pages.py": ("",),
    "tests/wire/test_bodies.py": (UVICORN,),
    "tests/wire/test_clients.py": (
        r"test_curl\[.*-3000000---http(2|1\.0)",
        UVICORN,
    ),
    "tests/wire/test_fragments.py": (UVICORN,),
    "tests/wire/test_framing.py": (UVICORN,),
    "tests/wire/test_heads.py": (UVICORN,),
    "tests/wire/test_pipelining.py": (
        UVICORN,
        "test_clients_that_never_read",
    ),
    "tests/wire/test_slow.py": (UVICORN,),
    "tests/contract/schedulers/test_bad_input.py": (
        r"test_(actions_on_a_job_that_is_not_there|a_script_path_that_is_no_file)\w*\[(pbs|local)",
        r"test_(a_job_that_cannot_be|ids_that_are_none)\[(pbs|local)",
    ),
    "tests/unit/auth/narrow/test_replicas.py": ("test_several_processes",),
    "tests/v2/test_hostile.py": (
        "test_system_name_is_case",
        "test_openapi_document_is_served",
    ),
    "tests/v2/test_large_clients.py": (r"test_shell_script_with_curl\[.*(\d{6,})",),
    "tests/unit/schedulers/rest/test_rest_scheduler.py": ("test_many_jobs_do_not_block",),
    "tests/unit/limits/test_many_users.py": ("test_debts_of_many",),
    "tests/unit/files/test_archive_bounds.py": ("test_unknown_records_are_not_kept",),
    "tests/unit/bench/test_crowds.py": ("test_table_of_workers",),
    "tests/contract/files/test_replacing.py": (
        r"test_hard_links_stay_linked\[sandbox-(grows-small|shrinks-large)",
        r"test_the_mode_is_that_after_a_write\[.*large",
    ),
    "tests/contract/files/test_carrying.py": (
        r"test_cancelled_upload_leaves_no_temporary_file\[sandbox-[1245]",
        r"test_file_changed_during_a_download\[.*False",
    ),
    "tests/unit/ssh/queue/test_door.py": (
        "test_a_server_that_comes_back",
        "test_late_requests_wait",
        "test_no_request_is_lost_or_doubled",
        "test_a_first_crowd",
    ),
    "tests/unit/ssh/pool/test_rules.py": ("test_hung_logins",),
    "tests/unit/ssh/channels/test_start_up_files.py": (
        "test_(a_login_that_hangs|what_a_start_up_file_does).*(traces everyt|True)",
    ),
    "tests/unit/cli/test_top.py": (r"test_a_low_screen.*\[(200-|60-(2|3|6))",),
    "tests/unit/transfer/s3/test_mover_nodes.py": (
        r"test_a_store_that_sends_something_else\[(?!endless)",
        "test_a_node_that_has_only",
    ),
    "tests/unit/http/files/test_paths.py": (r"test_all_operations_accept_any_file_name\[(?!.*(new.nline|it's|xed))",),
    "tests/unit/ssh/pool/test_shared_opening.py": ("test_few_channels_serve_a_mixed_crowd",),
    "tests/unit/files/test_final_offsets.py": (r"test_the_client_of_a_piece_has_gone\[(?!disconnected)",),
    "tests/unit/files/test_killed_scripts.py": (r"test_a_copy_that_is_killed\[9",),
    "tests/unit/transfer/jobs/test_job_scripts.py": (r"test_a_name_never_becomes_a_directive\[(?!.*\\n)",),
    "tests/unit/transfer/trees/test_attacks.py": (
        r"test_the_program_leaves_its_folder_for_no_record\[(a/|\.\]|\.\.\])",
    ),
    "tests/unit/transfer/streamer/test_hostile.py": (r"test_a_wrong_path\[(upload-(there|fifo)|download-none)",),
    "tests/contract/files/test_states.py": (r"test_every_answer_is_one_state.*\[sandbox-(0-False|1-True)",),
    "tests/contract/files/test_missing_tools.py": (r"test_missing_compression_programs\[(?!gzip)",),
    "tests/unit/transfer/wormhole/test_wormhole.py": (r"test_a_failure_leaves_the_old_file\[(refused|folder)",),
    "tests/unit/transfer/streamer/test_firecrest_streamer.py": (r"test_(upload|download)\[1\]",),
    "tests/unit/transfer/s3/test_store.py": (r"test_refusals\[key1",),
}


def mark(items: Sequence[pytest.Item]) -> None:
    """Mark these tests."""
    for item in items:
        file, _, rest = item.nodeid.partition("::")
        if (pattern := _pattern(file)) is not None and pattern.match(rest):
            item.add_marker(pytest.mark.thorough)


@cache
def _pattern(file: str) -> re.Pattern[str] | None:
    patterns = THOROUGH.get(file)
    return re.compile("|".join(f"(?:{one})" for one in patterns)) if patterns else None
