package sqlscan

import (
	"embed"
	"strings"

	"github.com/gatebook/gatebook/internal/access"
)

//go:embed functions.txt types.txt
var lists embed.FS

// builtinTypes are the types of pg_catalog; harmless are its functions that do nothing but compute or read the catalog.
var (
	builtinTypes = wordSet("types.txt")
	harmless     = wordSet("functions.txt")
)

// wordSet returns the words of a list, without its comments.
func wordSet(name string) map[string]bool {
	text, err := lists.ReadFile(name)
	if err != nil {
		panic(err) // it is part of the program
	}
	m := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "#") {
			for _, name := range strings.Fields(line) {
				m[name] = true
			}
		}
	}
	return m
}

// reviewed are functions of pg_catalog whose effects are not those of their
// volatility. What stands in no list runs code that is not known.
var reviewed = effectsOf(map[access.Effects]string{
	// VOLATILE, but they only compute.
	0: `clock_timestamp timeofday current_query random random_normal gen_random_uuid uuidv4 uuidv7 array_sample array_shuffle currval lastval`,
	// VOLATILE, but nothing changes: the server's own figures, large objects.
	access.EffectRead: `currtid2 pg_blocking_pids pg_safe_snapshot_blocking_pids pg_collation_actual_version
		pg_database_collation_actual_version pg_control_checkpoint pg_control_init pg_control_recovery pg_control_system pg_current_logfile
		pg_current_wal_flush_lsn pg_current_wal_insert_lsn pg_current_wal_lsn pg_database_size pg_indexes_size pg_relation_size pg_table_size
		pg_tablespace_size pg_total_relation_size pg_get_multixact_members pg_get_wal_replay_pause_state pg_get_wal_resource_managers
		pg_is_in_recovery pg_is_wal_replay_paused pg_jit_available pg_last_committed_xact pg_last_wal_receive_lsn pg_last_wal_replay_lsn
		pg_last_xact_replay_timestamp pg_lock_status pg_notification_queue_usage pg_partition_ancestors pg_partition_tree pg_prepared_xact
		pg_sequence_last_value pg_get_sequence_data pg_stat_get_recovery_prefetch pg_stat_get_xact_blocks_fetched pg_stat_get_xact_blocks_hit
		pg_stat_get_xact_function_calls pg_stat_get_xact_function_self_time pg_stat_get_xact_function_total_time pg_stat_get_xact_numscans
		pg_stat_get_xact_tuples_deleted pg_stat_get_xact_tuples_fetched pg_stat_get_xact_tuples_hot_updated
		pg_stat_get_xact_tuples_newpage_updated pg_stat_get_xact_tuples_inserted pg_stat_get_xact_tuples_returned
		pg_stat_get_xact_tuples_updated pg_stat_have_stats pg_stat_get_io pg_stat_get_backend_io pg_stat_get_backend_wal
		pg_xact_commit_timestamp pg_xact_commit_timestamp_origin pg_xact_status txid_status pg_get_backend_memory_contexts
		pg_get_shmem_allocations pg_get_shmem_allocations_numa pg_get_aios pg_get_wait_events pg_get_loaded_modules
		pg_get_wal_summarizer_state pg_show_replication_origin_status pg_replication_origin_progress
		pg_replication_origin_session_is_setup pg_replication_origin_session_progress
		lo_get loread lo_open lo_close lo_lseek lo_lseek64 lo_tell lo_tell64`,
	// They give the transaction a number, which ends in a record of the target's own.
	access.EffectTransaction: `txid_current pg_current_xact_id`,
	access.EffectWrite:       `nextval setval lo_creat lo_create lo_from_bytea lo_put lo_truncate lo_truncate64 lo_unlink lowrite`,
	access.EffectFile: `lo_import lo_export pg_read_file pg_read_file_old pg_read_binary_file pg_stat_file pg_ls_dir pg_ls_archive_statusdir
		pg_ls_logdir pg_ls_logicalmapdir pg_ls_logicalsnapdir pg_ls_replslotdir pg_ls_summariesdir pg_ls_tmpdir pg_ls_waldir
		pg_hba_file_rules pg_ident_file_mappings pg_show_all_file_settings pg_available_wal_summaries pg_wal_summary_contents`,
	access.EffectLock: `pg_sleep pg_sleep_for pg_sleep_until pg_advisory_lock pg_advisory_lock_shared
		pg_advisory_xact_lock pg_advisory_xact_lock_shared pg_try_advisory_lock pg_try_advisory_lock_shared
		pg_try_advisory_xact_lock pg_try_advisory_xact_lock_shared`,
	access.EffectNotify: `pg_notify`,
	// Giving a lock back hurts nobody. Pools of connections do it after each use.
	access.EffectSession: `setseed set_config pg_stat_clear_snapshot pg_stat_force_next_flush pg_export_snapshot
		pg_advisory_unlock pg_advisory_unlock_all pg_advisory_unlock_shared`,
	access.EffectAdmin: `pg_cancel_backend pg_terminate_backend pg_reload_conf pg_rotate_logfile pg_rotate_logfile_old pg_backup_start pg_backup_stop
		pg_copy_logical_replication_slot pg_copy_physical_replication_slot pg_create_logical_replication_slot
		pg_create_physical_replication_slot pg_drop_replication_slot pg_replication_slot_advance pg_sync_replication_slots
		pg_logical_emit_message pg_logical_slot_get_binary_changes pg_logical_slot_get_changes pg_logical_slot_peek_binary_changes
		pg_logical_slot_peek_changes pg_create_restore_point pg_switch_wal pg_promote pg_wal_replay_pause pg_wal_replay_resume
		pg_log_backend_memory_contexts pg_log_standby_snapshot pg_import_system_collations pg_nextoid pg_extension_config_dump
		pg_replication_origin_advance pg_replication_origin_create pg_replication_origin_drop pg_replication_origin_session_reset
		pg_replication_origin_session_setup pg_replication_origin_xact_reset pg_replication_origin_xact_setup
		pg_stat_reset pg_stat_reset_backend_stats pg_stat_reset_replication_slot pg_stat_reset_shared pg_stat_reset_single_function_counters
		pg_stat_reset_single_table_counters pg_stat_reset_slru pg_stat_reset_subscription_stats pg_clear_attribute_stats
		pg_clear_relation_stats pg_restore_attribute_stats pg_restore_relation_stats pg_stop_making_pinned_objects
		brin_desummarize_range brin_summarize_new_values brin_summarize_range gin_clean_pending_list`,
	// They run a text, read what a text names, make a value of a type that a text names, or load the library of a function.
	access.EffectExecute: `fmgr_c_validator fmgr_internal_validator fmgr_sql_validator query_to_xml query_to_xml_and_xmlschema query_to_xmlschema cursor_to_xml cursor_to_xmlschema table_to_xml
		table_to_xml_and_xmlschema table_to_xmlschema schema_to_xml schema_to_xml_and_xmlschema schema_to_xmlschema database_to_xml
		database_to_xml_and_xmlschema database_to_xmlschema ts_stat ts_rewrite pg_input_is_valid pg_input_error_info`,
})

func effectsOf(lists map[access.Effects]string) map[string]access.Effects {
	m := map[string]access.Effects{}
	for e, names := range lists {
		for _, name := range strings.Fields(names) {
			m[name] = e
		}
	}
	return m
}

// builtin returns the effect of a function of pg_catalog, 0 if it only computes.
func builtin(name string) access.Effects {
	if e, ok := reviewed[name]; ok {
		return e
	}
	if harmless[name] {
		return 0
	}
	return access.EffectExecute
}

// builtinOperators are the names of pg_catalog's operators in PostgreSQL 15 and 18. Their functions only compute.
var builtinOperators = set(strings.Fields(`
	!! !~ !~* !~~ !~~* # ## #- #> #>> % & && &< &<| &> * *< *<= *<> *= *> *>= + - -> ->> -|- / < <-> << <<= <<| <= <> <@ <^ = > >= >>
	>>= >^ ? ?# ?& ?- ?-| ?| ?|| @ @-@ @> @? @@ @@@ ^ ^@ | |&> |/ |>> || ||/ ~ ~* ~<=~ ~<~ ~= ~>=~ ~>~ ~~ ~~*`)...)

// objectWriters change the large object that their argument names: one for each row of the query around them.
var objectWriters = set("lo_unlink", "lo_put", "lo_truncate", "lo_truncate64", "lowrite")

// sampling notes a method of TABLESAMPLE. It is a function that cannot be called otherwise.
func (w *walk) sampling(n Name) {
	if (n.Schema == "" || n.Schema == "pg_catalog") && (n.Name == "bernoulli" || n.Name == "system") {
		w.object("function", n, 0)
		return
	}
	w.call(n, 1)
}

// call notes the call of a function with a number of arguments.
func (w *walk) call(n Name, arguments int) {
	if n.Name == "ts_rewrite" && arguments == 3 && (n.Schema == "" || n.Schema == "pg_catalog") {
		w.object("function", n, 0) // only the form of two arguments runs a text
		return
	}
	if n.Name == "json_object" {
		n.Schema = "" // the grammar of PostgreSQL 16 puts pg_catalog before it, older servers look the name up
	}
	if n.Schema != "" && n.Schema != "pg_catalog" {
		w.object("function", n, access.EffectExecute)
	} else {
		w.object("function", n, builtin(n.Name))
	}
	if objectWriters[n.Name] && w.scope != nil {
		w.scope.objects = true
	}
	// Extensions that make connections keep these names, wherever they are installed.
	if strings.HasPrefix(n.Name, "dblink") || strings.HasPrefix(n.Name, "postgres_fdw_") {
		w.effect(access.EffectNetwork)
	}
}
