"""Functions of PostgreSQL that leave nothing behind on a server session, and its keywords. Data, not code.

Made from ``pg_proc`` of PostgreSQL 15 and 18 (``tests/unit/test_sql_catalog.py`` compares it with both):
everything a person may call, without handlers, trigger functions, input and output functions and the
insides of aggregates. Gone through by hand, every volatile one by name. Left out, so that they pin:
whatever sets something for the session (``set_config``, ``setseed``), whatever runs SQL text or whole
tables (``query_to_xml``, ``ts_stat``, ``ts_rewrite``, ``table_to_xml``), whatever holds a resource past the
transaction (advisory locks, replication slots, backups), and whatever only ``pg_upgrade`` and extension
scripts use.
"""

from __future__ import annotations


def names(text: str) -> frozenset[str]:
    """The words of `text`."""
    return frozenset(text.split())


# Asked of a replica, or asked twice, these give another answer or do something twice: never to be moved or
# sent again. Among them: what only a primary answers (pg_current_wal_lsn), and currval.
WRITES = names(
    """
    brin_desummarize_range brin_summarize_new_values brin_summarize_range currval gin_clean_pending_list
    lastval lo_close lo_creat lo_create lo_export lo_from_bytea lo_get lo_import lo_lseek lo_lseek64
    lo_open lo_put lo_tell lo_tell64 lo_truncate lo_truncate64 lo_unlink loread lowrite nextval
    pg_advisory_unlock pg_advisory_unlock_all pg_advisory_unlock_shared pg_advisory_xact_lock
    pg_advisory_xact_lock_shared pg_cancel_backend pg_clear_attribute_stats pg_clear_relation_stats
    pg_create_restore_point pg_current_wal_flush_lsn pg_current_wal_insert_lsn pg_current_wal_lsn
    pg_current_xact_id pg_drop_replication_slot pg_export_snapshot pg_import_system_collations
    pg_log_backend_memory_contexts pg_log_standby_snapshot pg_logical_emit_message pg_notify pg_promote
    pg_reload_conf pg_replication_origin_advance pg_replication_origin_create pg_replication_origin_drop
    pg_restore_attribute_stats pg_restore_relation_stats pg_rotate_logfile pg_stat_clear_snapshot
    pg_stat_reset pg_stat_reset_backend_stats pg_stat_reset_replication_slot pg_stat_reset_shared
    pg_stat_reset_single_function_counters pg_stat_reset_single_table_counters pg_stat_reset_slru
    pg_stat_reset_subscription_stats pg_switch_wal pg_sync_replication_slots pg_terminate_backend
    pg_try_advisory_xact_lock pg_try_advisory_xact_lock_shared pg_wal_replay_pause pg_wal_replay_resume
    pg_walfile_name pg_walfile_name_offset setval txid_current
    """
)

# Volatile by the catalogue, and only reading or waiting all the same.
VOLATILE_READS = names(
    """
    array_sample array_shuffle bernoulli clock_timestamp current_query gen_random_uuid
    pg_available_wal_summaries pg_blocking_pids pg_collation_actual_version pg_control_checkpoint
    pg_control_init pg_control_recovery pg_control_system pg_current_logfile
    pg_database_collation_actual_version pg_database_size pg_get_aios pg_get_backend_memory_contexts
    pg_get_loaded_modules pg_get_multixact_members pg_get_sequence_data pg_get_shmem_allocations
    pg_get_shmem_allocations_numa pg_get_wait_events pg_get_wal_replay_pause_state
    pg_get_wal_resource_managers pg_get_wal_summarizer_state pg_hba_file_rules pg_ident_file_mappings
    pg_indexes_size pg_is_in_recovery pg_is_wal_replay_paused pg_jit_available pg_last_committed_xact
    pg_last_wal_receive_lsn pg_last_wal_replay_lsn pg_last_xact_replay_timestamp pg_lock_status
    pg_ls_archive_statusdir pg_ls_dir pg_ls_logdir pg_ls_logicalmapdir pg_ls_logicalsnapdir
    pg_ls_replslotdir pg_ls_summariesdir pg_ls_tmpdir pg_ls_waldir pg_notification_queue_usage
    pg_partition_ancestors pg_partition_tree pg_prepared_xact pg_read_binary_file pg_read_file
    pg_relation_size pg_replication_origin_progress pg_replication_origin_session_is_setup
    pg_safe_snapshot_blocking_pids pg_sequence_last_value pg_show_all_file_settings
    pg_show_replication_origin_status pg_sleep pg_sleep_for pg_sleep_until pg_stat_file
    pg_stat_get_backend_io pg_stat_get_backend_wal pg_stat_get_io pg_stat_get_recovery_prefetch
    pg_stat_get_xact_blocks_fetched pg_stat_get_xact_blocks_hit pg_stat_get_xact_function_calls
    pg_stat_get_xact_function_self_time pg_stat_get_xact_function_total_time pg_stat_get_xact_numscans
    pg_stat_get_xact_tuples_deleted pg_stat_get_xact_tuples_fetched pg_stat_get_xact_tuples_hot_updated
    pg_stat_get_xact_tuples_inserted pg_stat_get_xact_tuples_newpage_updated
    pg_stat_get_xact_tuples_returned pg_stat_get_xact_tuples_updated pg_stat_have_stats pg_table_size
    pg_tablespace_size pg_total_relation_size pg_wal_summary_contents pg_xact_commit_timestamp
    pg_xact_commit_timestamp_origin pg_xact_status random random_normal system timeofday txid_status
    uuidv4 uuidv7
    """
)

_STATISTICS = names(
    """
    activity analyze_count archiver autoanalyze_count autovacuum_count backend_activity
    backend_activity_start backend_client_addr backend_client_port backend_dbid backend_idset backend_pid
    backend_start backend_subxact backend_userid backend_wait_event backend_wait_event_type
    backend_xact_start bgwriter_buf_written_checkpoints bgwriter_buf_written_clean
    bgwriter_maxwritten_clean bgwriter_requested_checkpoints bgwriter_stat_reset_time
    bgwriter_timed_checkpoints blocks_fetched blocks_hit buf_alloc buf_fsync_backend buf_written_backend
    checkpoint_sync_time checkpoint_write_time checkpointer_buffers_written checkpointer_num_performed
    checkpointer_num_requested checkpointer_num_timed checkpointer_restartpoints_performed
    checkpointer_restartpoints_requested checkpointer_restartpoints_timed checkpointer_slru_written
    checkpointer_stat_reset_time checkpointer_sync_time checkpointer_write_time db_active_time
    db_blk_read_time db_blk_write_time db_blocks_fetched db_blocks_hit db_checksum_failures
    db_checksum_last_failure db_conflict_all db_conflict_bufferpin db_conflict_lock
    db_conflict_logicalslot db_conflict_snapshot db_conflict_startup_deadlock db_conflict_tablespace
    db_deadlocks db_idle_in_transaction_time db_numbackends db_parallel_workers_launched
    db_parallel_workers_to_launch db_session_time db_sessions db_sessions_abandoned db_sessions_fatal
    db_sessions_killed db_stat_reset_time db_temp_bytes db_temp_files db_tuples_deleted db_tuples_fetched
    db_tuples_inserted db_tuples_returned db_tuples_updated db_xact_commit db_xact_rollback dead_tuples
    function_calls function_self_time function_total_time ins_since_vacuum last_analyze_time
    last_autoanalyze_time last_autovacuum_time last_vacuum_time lastscan live_tuples mod_since_analyze
    numscans progress_info replication_slot slru snapshot_timestamp subscription subscription_stats
    total_analyze_time total_autoanalyze_time total_autovacuum_time total_vacuum_time tuples_deleted
    tuples_fetched tuples_hot_updated tuples_inserted tuples_newpage_updated tuples_returned
    tuples_updated vacuum_count wal wal_receiver wal_senders
    """
)

_STABLE = names(
    """
    abbrev abs aclcontains acldefault aclexplode acos acosd acosh age any_value area array_agg
    array_append array_cat array_dims array_fill array_length array_lower array_ndims array_position
    array_positions array_prepend array_remove array_replace array_reverse array_sort array_to_json
    array_to_string array_to_tsvector array_upper arraycontained arraycontains arrayoverlap ascii asin
    asind asinh atan atan2 atan2d atand atanh avg bit bit_and bit_count bit_length bit_or bit_xor bool
    bool_and bool_or box bpchar broadcast btrim bytea byteasend cardinality casefold cbrt ceil ceiling
    center char char_length character_length chr cidr circle col_description concat concat_ws convert
    convert_from convert_to corr cos cosd cosh cot cotd count covar_pop covar_samp crc32 crc32c cume_dist
    current_database current_schema current_schemas current_setting date date_add date_bin date_mi
    date_mii date_part date_pli date_subtract date_trunc datemultirange daterange decode degrees
    dense_rank diagonal diameter div encode enum_first enum_last enum_range erf erfc every exp extract
    factorial family first_value float4 float8 float8send floor format format_type gamma gcd
    generate_series generate_subscripts get_bit get_byte get_current_ts_config getdatabaseencoding
    getpgusername has_any_column_privilege has_column_privilege has_database_privilege
    has_foreign_data_wrapper_privilege has_function_privilege has_language_privilege
    has_largeobject_privilege has_parameter_privilege has_schema_privilege has_sequence_privilege
    has_server_privilege has_table_privilege has_tablespace_privilege has_type_privilege hash_array
    hash_record hashbytea hashint4 hashint8 hashtext hashtextextended height host hostmask
    icu_unicode_version inet_client_addr inet_client_port inet_merge inet_same_family inet_server_addr
    inet_server_port initcap int2 int2send int4 int4multirange int4range int4send int8 int8multirange
    int8range int8send interval interval_mul is_normalized isclosed isempty isfinite ishorizontal isopen
    isparallel isperp isvertical json_agg json_agg_strict json_array_element json_array_element_text
    json_array_elements json_array_elements_text json_array_length json_build_array json_build_object
    json_each json_each_text json_extract_path json_extract_path_text json_object json_object_agg
    json_object_agg_strict json_object_agg_unique json_object_agg_unique_strict json_object_field
    json_object_field_text json_object_keys json_populate_record json_populate_recordset json_strip_nulls
    json_to_record json_to_recordset json_to_tsvector json_typeof jsonb_agg jsonb_agg_strict
    jsonb_array_element jsonb_array_element_text jsonb_array_elements jsonb_array_elements_text
    jsonb_array_length jsonb_build_array jsonb_build_object jsonb_concat jsonb_contained jsonb_contains
    jsonb_delete jsonb_delete_path jsonb_each jsonb_each_text jsonb_exists jsonb_exists_all
    jsonb_exists_any jsonb_extract_path jsonb_extract_path_text jsonb_insert jsonb_object jsonb_object_agg
    jsonb_object_agg_strict jsonb_object_agg_unique jsonb_object_agg_unique_strict jsonb_object_field
    jsonb_object_field_text jsonb_object_keys jsonb_path_exists jsonb_path_exists_tz jsonb_path_match
    jsonb_path_match_tz jsonb_path_query jsonb_path_query_array jsonb_path_query_array_tz
    jsonb_path_query_first jsonb_path_query_first_tz jsonb_path_query_tz jsonb_populate_record
    jsonb_populate_record_valid jsonb_populate_recordset jsonb_pretty jsonb_set jsonb_set_lax
    jsonb_strip_nulls jsonb_to_record jsonb_to_recordset jsonb_to_tsvector jsonb_typeof justify_days
    justify_hours justify_interval lag last_value lcm lead left length lgamma like like_escape line ln log
    log10 lower lower_inc lower_inf lpad lseg ltrim macaddr macaddr8 macaddr8_set7bit make_date
    make_interval make_time make_timestamp make_timestamptz makeaclitem masklen max md5 min min_scale mod
    mode money multirange mxid_age name netmask network normalize notlike now npoints nth_value ntile
    num_nonnulls num_nulls numeric numeric_div_trunc numeric_exp numeric_ln numeric_log numeric_sqrt
    nummultirange numnode numrange obj_description octet_length oid oidvectortypes overlaps overlay
    parse_ident path percent_rank percentile_cont percentile_disc pg_available_extension_versions
    pg_available_extensions pg_backend_pid pg_basetype pg_char_to_encoding pg_client_encoding
    pg_collation_for pg_collation_is_visible pg_column_compression pg_column_is_updatable pg_column_size
    pg_column_toast_chunk_id pg_conf_load_time pg_config pg_conversion_is_visible pg_current_snapshot
    pg_current_xact_id_if_assigned pg_cursor pg_describe_object pg_encoding_max_length pg_encoding_to_char
    pg_extension_update_paths pg_filenode_relation pg_function_is_visible pg_get_acl
    pg_get_catalog_foreign_keys pg_get_constraintdef pg_get_expr pg_get_function_arg_default
    pg_get_function_arguments pg_get_function_identity_arguments pg_get_function_result
    pg_get_function_sqlbody pg_get_functiondef pg_get_indexdef pg_get_keywords pg_get_object_address
    pg_get_partition_constraintdef pg_get_partkeydef pg_get_publication_tables
    pg_get_replica_identity_index pg_get_replication_slots pg_get_ruledef pg_get_serial_sequence
    pg_get_statisticsobjdef pg_get_statisticsobjdef_columns pg_get_statisticsobjdef_expressions
    pg_get_triggerdef pg_get_userbyid pg_get_viewdef pg_has_role pg_identify_object
    pg_identify_object_as_address pg_index_column_has_property pg_index_has_property
    pg_indexam_has_property pg_indexam_progress_phasename pg_input_error_info pg_input_is_valid
    pg_is_other_temp_schema pg_listening_channels pg_lsn pg_mcv_list_items pg_my_temp_schema
    pg_numa_available pg_opclass_is_visible pg_operator_is_visible pg_opfamily_is_visible
    pg_options_to_table pg_partition_root pg_postmaster_start_time pg_prepared_statement
    pg_relation_filenode pg_relation_filepath pg_relation_is_publishable pg_relation_is_updatable
    pg_replication_origin_oid pg_sequence_parameters pg_settings_get_flags pg_show_all_settings
    pg_size_bytes pg_size_pretty pg_snapshot_xip pg_snapshot_xmax pg_snapshot_xmin pg_split_walfile_name
    pg_statistics_obj_is_visible pg_table_is_visible pg_tablespace_databases pg_tablespace_location
    pg_timezone_abbrevs pg_timezone_names pg_trigger_depth pg_ts_config_is_visible pg_ts_dict_is_visible
    pg_ts_parser_is_visible pg_ts_template_is_visible pg_type_is_visible pg_typeof pg_visible_in_snapshot
    pg_wal_lsn_diff phraseto_tsquery pi plainto_tsquery point polygon position pow power querytree
    quote_ident quote_literal quote_nullable radians radius range_adjacent range_agg range_contains
    range_intersect_agg range_merge range_overlaps rank regclass regexp_count regexp_instr regexp_like
    regexp_match regexp_matches regexp_replace regexp_split_to_array regexp_split_to_table regexp_substr
    regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy repeat
    replace reverse right round row_number row_security_active row_to_json rpad rtrim
    satisfies_hash_partition scale set_bit set_byte set_masklen setweight sha224 sha256 sha384 sha512
    shobj_description sign similar_escape similar_to_escape sin sind sinh slope split_part sqrt
    starts_with statement_timestamp stddev stddev_pop stddev_samp string_agg string_to_array
    string_to_table strip strpos substr substring sum tan tand tanh text textcat texticlike texticregexeq
    textlen textlike textregexeq textsend time timestamp timestamp_mi timestamptz timetz timezone to_ascii
    to_bin to_char to_date to_hex to_json to_jsonb to_number to_oct to_regclass to_regcollation
    to_regnamespace to_regoper to_regoperator to_regproc to_regprocedure to_regrole to_regtype
    to_regtypemod to_timestamp to_tsquery to_tsvector transaction_timestamp translate trim_array
    trim_scale trunc ts_debug ts_delete ts_filter ts_headline ts_lexize ts_match_tt ts_match_vq ts_parse
    ts_rank ts_rank_cd ts_token_type tsmultirange tsquery_and tsquery_not tsquery_or tsquery_phrase
    tsrange tstzmultirange tstzrange tsvector_concat tsvector_to_array txid_current_if_assigned
    txid_current_snapshot txid_snapshot_xip txid_snapshot_xmax txid_snapshot_xmin txid_visible_in_snapshot
    unicode_assigned unicode_version unistr unnest upper upper_inc upper_inf uuid_extract_timestamp
    uuid_extract_version uuid_send var_pop var_samp varbit varchar variance version websearch_to_tsquery
    width width_bucket xid xml xml_is_well_formed xml_is_well_formed_content xml_is_well_formed_document
    xmlagg xmlcomment xmlconcat2 xmlexists xmltext xpath xpath_exists
    """
)

# What grammar calls functions although no catalogue lists them. Quoted or qualified they are ordinary names.
KEYWORD_FUNCTIONS = names(
    """
    bigint bit boolean char character coalesce current_date current_time current_timestamp dec decimal
    exists extract float greatest grouping int integer interval json json_array json_arrayagg
    json_exists json_object json_objectagg json_query json_scalar json_serialize json_table json_value
    least localtime localtimestamp merge_action national nchar normalize nullif numeric overlay position
    precision real row setof smallint substring time timestamp treat trim values varchar xmlattributes
    xmlconcat xmlelement xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable
    """
)

BUILTINS = WRITES | VOLATILE_READS | _STABLE | {f"pg_stat_get_{name}" for name in _STATISTICS}

# Functions of pg_catalog that leave state behind, with the name of the `sql.Reason`.
_LOCKS = names("pg_advisory_lock pg_advisory_lock_shared pg_try_advisory_lock pg_try_advisory_lock_shared")
_UNRESETTABLE = names(
    """
    setseed pg_create_logical_replication_slot pg_create_physical_replication_slot
    pg_copy_logical_replication_slot pg_copy_physical_replication_slot pg_backup_start pg_start_backup
    pg_replication_origin_session_setup pg_logical_slot_get_changes pg_logical_slot_get_binary_changes
    pg_logical_slot_peek_changes pg_logical_slot_peek_binary_changes
    """
)
STATEFUL = {
    "set_config": "SETTING",
    **dict.fromkeys(_LOCKS, "ADVISORY_LOCK"),
    **dict.fromkeys(_UNRESETTABLE, "UNRESETTABLE"),
}

# Keywords of PostgreSQL 18, a superset of those before it. RESERVED ones are never the name of a function.
RESERVED = names(
    """
    all analyse analyze and any array as asc asymmetric both case cast check collate column constraint
    create current_catalog current_date current_role current_time current_timestamp current_user default
    deferrable desc distinct do else end except false fetch for foreign from grant group having in
    initially intersect into lateral leading limit localtime localtimestamp not null offset on only or
    order placing primary references returning select session_user some symmetric table then to trailing
    true union unique user using variadic when where window with
    """
)

KEYWORDS = RESERVED | names(
    """
    abort absent absolute access action add admin after aggregate also alter always asensitive assertion
    assignment at atomic attach attribute authorization backward before begin between bigint binary bit
    boolean breadth by cache call called cascade cascaded catalog chain char character characteristics
    checkpoint class close cluster coalesce collation columns comment comments commit committed
    compression concurrently conditional configuration conflict connection constraints content continue
    conversion copy cost cross csv cube current current_schema cursor cycle data database day deallocate
    dec decimal declare defaults deferred definer delete delimiter delimiters depends depth detach
    dictionary disable discard document domain double drop each empty enable encoding encrypted enforced
    enum error escape event exclude excluding exclusive execute exists explain expression extension
    external extract family filter finalize first float following force format forward freeze full
    function functions generated global granted greatest grouping groups handler header hold hour identity
    if ilike immediate immutable implicit import include including increment indent index indexes inherit
    inherits inline inner inout input insensitive insert instead int integer interval invoker is isnull
    isolation join json json_array json_arrayagg json_exists json_object json_objectagg json_query
    json_scalar json_serialize json_table json_value keep key keys label language large last leakproof
    least left level like listen load local location lock locked logged mapping match matched materialized
    maxvalue merge merge_action method minute minvalue mode month move name names national natural nchar
    nested new next nfc nfd nfkc nfkd no none normalize normalized nothing notify notnull nowait nullif
    nulls numeric object objects of off oids old omit operator option options ordinality others out outer
    over overlaps overlay overriding owned owner parallel parameter parser partial partition passing
    password path period plan plans policy position preceding precision prepare prepared preserve prior
    privileges procedural procedure procedures program publication quote quotes range read real reassign
    recursive ref referencing refresh reindex relative release rename repeatable replace replica reset
    restart restrict return returns revoke right role rollback rollup routine routines row rows rule
    savepoint scalar schema schemas scroll search second security sequence sequences serializable server
    session set setof sets share show similar simple skip smallint snapshot source sql stable standalone
    start statement statistics stdin stdout storage stored strict string strip subscription substring
    support sysid system system_user tables tablesample tablespace target temp template temporary text
    ties time timestamp transaction transform treat trigger trim truncate trusted type types uescape
    unbounded uncommitted unconditional unencrypted unknown unlisten unlogged until update vacuum valid
    validate validator value values varchar varying verbose version view views virtual volatile whitespace
    within without work wrapper write xml xmlattributes xmlconcat xmlelement xmlexists xmlforest
    xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable year yes zone
    """
)
