"""Verbs and functions of MySQL and MariaDB that leave nothing behind on a server session, and keywords. Data, not code.

Asked of MySQL 9.7 and MariaDB 10.11 themselves: `SELECT name(…)` says whether a name is built in (no error 1305 or
1630) or no name of a function at all (1064). A name that only one of the two servers has is the name of a
function somebody else wrote on the other: it is harmless only where the server is known. MD5, SHA and SHA1 are no
longer in MySQL 9.7 itself, and count as built in everywhere.
Left out, so that they pin: what holds a lock past the transaction, and what only the server's own views may call.
"""

from __future__ import annotations

from .sql_builtins import names

FUNCTIONS = names(
    """
    abs acos adddate addtime aes_decrypt aes_encrypt ascii asin atan atan2 avg benchmark bin binary
    bit_and bit_count bit_length bit_or bit_xor cast ceil ceiling char char_length character
    character_length charset coalesce coercibility collation compress concat concat_ws connection_id
    contains conv convert convert_tz cos cot count crc32 cume_dist curdate current_date current_role
    current_time current_timestamp current_user curtime database date date_add date_format date_sub
    datediff day dayname dayofmonth dayofweek dayofyear degrees dense_rank elt exp export_set extract
    extractvalue field find_in_set first_value floor format found_rows from_base64 from_days
    from_unixtime get_format greatest group_concat hex hour if ifnull inet6_aton inet6_ntoa inet_aton
    inet_ntoa insert instr interval is_free_lock is_ipv4 is_ipv4_compat is_ipv4_mapped is_ipv6
    is_used_lock isnull json_array json_array_append json_array_insert json_arrayagg json_contains
    json_contains_path json_depth json_extract json_insert json_keys json_length json_merge
    json_merge_patch json_merge_preserve json_object json_objectagg json_overlaps json_pretty json_quote
    json_remove json_replace json_search json_set json_type json_unquote json_valid json_value lag
    last_day last_insert_id last_value lcase lead least left length ln load_file localtime
    localtimestamp locate log log10 log2 lower lpad ltrim make_set makedate maketime master_pos_wait max
    mbrcontains mbrdisjoint mbrequals mbrintersects mbroverlaps mbrtouches mbrwithin md5 microsecond mid
    min minute mod month monthname name_const now nth_value ntile nullif oct octet_length ord password
    percent_rank period_add period_diff pi position pow power quarter quote radians rand random_bytes
    rank regexp_instr regexp_replace regexp_substr release_all_locks release_lock repeat replace reverse
    right round row row_count row_number rpad rtrim schema sec_to_time second session_user sha sha1 sha2
    sign sin sleep soundex space sqrt srid st_area st_asbinary st_asgeojson st_astext st_aswkb st_aswkt
    st_buffer st_centroid st_contains st_convexhull st_crosses st_difference st_dimension st_disjoint
    st_distance st_distance_sphere st_endpoint st_envelope st_equals st_exteriorring st_geomcollfromtext
    st_geomcollfromwkb st_geometrycollectionfromtext st_geometrycollectionfromwkb st_geometryfromtext
    st_geometryfromwkb st_geometryn st_geometrytype st_geomfromgeojson st_geomfromtext st_geomfromwkb
    st_interiorringn st_intersection st_intersects st_isclosed st_isempty st_issimple st_length
    st_linefromtext st_linefromwkb st_linestringfromtext st_linestringfromwkb st_mlinefromtext
    st_mlinefromwkb st_mpointfromtext st_mpointfromwkb st_mpolyfromtext st_mpolyfromwkb
    st_multilinestringfromtext st_multilinestringfromwkb st_multipointfromtext st_multipointfromwkb
    st_multipolygonfromtext st_multipolygonfromwkb st_numgeometries st_numinteriorrings st_numpoints
    st_overlaps st_pointfromtext st_pointfromwkb st_pointn st_polyfromtext st_polyfromwkb
    st_polygonfromtext st_polygonfromwkb st_srid st_startpoint st_symdifference st_touches st_union
    st_within st_x st_y std stddev stddev_pop stddev_samp str_to_date strcmp subdate substr substring
    substring_index subtime sum sysdate system_user tan time time_format time_to_sec timediff timestamp
    timestampadd timestampdiff to_base64 to_days to_seconds trim truncate ucase uncompress
    uncompressed_length unhex unique unix_timestamp updatexml upper user utc_date utc_time utc_timestamp
    uuid uuid_short value values var_pop var_samp variance version week weekday weekofyear weight_string
    year yearweek
    """
)
"""Built in on both, harmless."""

MYSQL_FUNCTIONS = names(
    """
    any_value bin_to_uuid cube etag format_bytes format_pico_time from_vector geomcollection
    geometrycollection grouping gtid_subset gtid_subtract icu_version is_uuid json_schema_valid
    json_schema_validation_report json_storage_free json_storage_size lateral linestring mbrcoveredby
    mbrcovers multilinestring multipoint multipolygon of point polygon ps_current_thread_id ps_thread_id
    regexp_like roles_graphml rollup source_pos_wait st_buffer_strategy st_collect st_frechetdistance
    st_geohash st_geomcollfromtxt st_hausdorffdistance st_isvalid st_latfromgeohash st_latitude
    st_lineinterpolatepoint st_lineinterpolatepoints st_longfromgeohash st_longitude st_makeenvelope
    st_numinteriorring st_pointatdistance st_pointfromgeohash st_simplify st_swapxy st_transform
    st_validate statement_digest statement_digest_text string_to_vector uuid_to_bin
    validate_password_strength vector_dim vector_to_string wait_for_executed_gtid_set
    """
)
"""Built in on MySQL alone, or a word of its grammar."""

MARIADB_FUNCTIONS = names(
    """
    add_months chr column_add column_check column_create column_delete column_exists column_get
    column_json column_list crc32c decode des_decrypt des_encrypt encode encrypt glength json_compact
    json_detailed json_equals json_exists json_loose json_normalize json_query lastval lengthb
    master_gtid_wait mbrequal median natural_sort_key nextval nvl nvl2 old_password overlaps
    percentile_cont percentile_disc rownum setval sformat st_boundary st_isring st_pointonsurface
    st_relate sys_guid to_char within wsrep_last_seen_gtid wsrep_last_written_gtid
    wsrep_sync_wait_upto_gtid
    """
)
"""Built in on MariaDB alone."""

GRAMMAR = names(
    """
    all and any as between bigint bit blob bool boolean both by case cross datetime dec decimal default
    distinct distinctrow div double else end except exists float float4 float8 for from group having
    high_priority in index inner int int1 int2 int3 int4 int8 integer intersect into is join json key
    keys leading like limit longblob longtext match mediumblob mediumint mediumtext middleint national
    natural nchar not numeric nvarchar offset on or order over partition precision range real regexp
    returning rlike rows select signed smallint some sql_big_result sql_small_result straight_join table
    text then tinyblob tinyint tinytext trailing union unsigned using varbinary varchar varcharacter
    varying when where window with xor
    """
)
"""Words before a parenthesis that neither server takes for the name of a function, unless quoted."""

KEYWORDS = (
    names(
        """
        absent accessible account action active add admin after against aggregate algorithm
        allow_missing_files alter always analyze array asc asensitive
        assign_gtids_to_anonymous_transactions at atomic attribute authentication authors auto
        auto_increment auto_refresh auto_refresh_source autoextend_size avg_row_length backup before
        begin bernoulli binlog block body btree buckets bulk byte cache call cascade cascaded
        catalog_name chain challenge_response change changed channel check checkpoint checksum cipher
        class_origin client clob clone close code collate column column_add column_check column_create
        column_delete column_format column_get column_name columns comment commit committed compact
        completion component compressed compression concurrent condition connection consistent
        constraint constraint_catalog constraint_name constraint_schema context continue contributors
        cpu create cube current current_pos cursor cursor_name cycle data databases datafile day_hour
        day_microsecond day_minute day_second deallocate declare default_auth definer definition
        delay_key_write delayed delete delete_domain_id des_key_file desc describe description
        deterministic diagnostics directory disable discard disk do do_domain_ids drop dual duality
        dumpfile duplicate dynamic each elseif elsif empty enable enclosed encryption ends enforced
        engine engine_attribute engines enum error errors escape escaped event events every examined
        exception exchange exclude execute exit expansion expire explain export extended extent_size
        external external_format factor failed_login_attempts false fast faults federated fetch fields
        file file_block_size file_format file_name file_pattern file_prefix files filter finish first
        fixed flush following follows force foreign found full fulltext function general generate
        generated geomcollection geometry geometrycollection get get_source_public_key global goto grant
        grants group_replication grouping groups gtid_only gtids guided handler hard hash header help
        histogram history host hosts hour_microsecond hour_minute hour_second id identified ignore
        ignore_domain_ids ignore_server_ids ignored immediate import inactive increment indexes infile
        initial initial_size initiate inout insensitive insert insert_method install instance invisible
        invoker io io_after_gtids io_before_gtids io_thread ipc isolation isopen issuer iterate
        key_block_size keyring kill language last lastval lateral leave leaves less level library linear
        lines linestring list load local lock locked locks logfile logs long loop low_priority manual
        masking master master_connect_retry master_delay master_demote_to_replica master_demote_to_slave
        master_gtid_pos master_heartbeat_period master_host master_log_file master_log_pos
        master_password master_port master_server_id master_ssl master_ssl_ca master_ssl_capath
        master_ssl_cert master_ssl_cipher master_ssl_crl master_ssl_crlpath master_ssl_key
        master_ssl_verify_server_cert master_use_gtid master_user materialized max_connections_per_hour
        max_queries_per_hour max_rows max_size max_statement_time max_updates_per_hour
        max_user_connections maxvalue medium member memory merge message_text migrate min_rows minus
        minute_microsecond minute_second minvalue mode modifies modify monitor multilinestring
        multipoint multipolygon mutex mysql mysql_errno name names ndb ndbcluster nested
        network_namespace never new next nextval no no_wait no_write_to_binlog nocache nocycle nodegroup
        nomaxvalue nominvalue none notfound nowait null nulls number of off oj old old_password one
        online only open optimize optimizer_costs option optional optionally options ordinality
        organization others out outer outfile overlaps owner pack_keys package page page_checksum
        parallel parameters parse_tree parse_vcol_expr parser partial partitioning partitions
        password_lock_time path period persist persist_only persistent phase plugin plugin_dir plugins
        point policy polygon port portion precedes preceding prepare preserve prev previous primary
        privilege_checks_user privileges procedure process processlist profile profiles proxy purge
        qualify query quick raise random raw read read_only read_write reads rebuild recover recursive
        redo_buffer_size redofile redundant ref_system_id reference references registration relational
        relay relay_log_file relay_log_pos relay_thread relaylog release reload remove rename reorganize
        repair repeatable replay replica replica_pos replicas replicate_do_db replicate_do_table
        replicate_ignore_db replicate_ignore_table replicate_rewrite_db replicate_wild_do_table
        replicate_wild_ignore_table replication require require_row_format
        require_table_primary_key_check reset resignal resource respect restart restore restrict resume
        retain return returned_sqlstate returns reuse revoke role rollback rollup rotate routine
        row_format rowcount rownum rowtype rtree s3 savepoint schedule schema_name schemas
        second_microsecond secondary secondary_engine secondary_engine_attribute secondary_load
        secondary_unload security sensitive separator sequence serial serializable server session set
        sets setval share show shutdown signal simple skip slave slave_pos slaves slow snapshot socket
        soft soname sounds source source_auto_position source_bind source_compression_algorithms
        source_connect_retry source_connection_auto_failover source_delay source_heartbeat_period
        source_host source_log_file source_log_pos source_password source_port source_public_key_path
        source_retry_count source_ssl source_ssl_ca source_ssl_capath source_ssl_cert source_ssl_cipher
        source_ssl_crl source_ssl_crlpath source_ssl_key source_ssl_verify_server_cert
        source_tls_ciphersuites source_tls_version source_user source_zstd_compression_level spatial
        specific sql sql_after_gtids sql_after_mts_gaps sql_before_gtids sql_buffer_result sql_cache
        sql_calc_found_rows sql_no_cache sql_thread sql_tsi_day sql_tsi_hour sql_tsi_minute
        sql_tsi_month sql_tsi_quarter sql_tsi_second sql_tsi_week sql_tsi_year sqlexception sqlstate
        sqlwarning ssl stacked stage start starting starts statement stats_auto_recalc stats_persistent
        stats_sample_pages status stop storage stored stream strict_load string subclass_origin subject
        subpartition subpartitions super suspend swaps switches system system_time table_checksum
        table_name tables tablesample tablespace temporary temptable terminated than thread_priority
        threads ties tls to transaction transactional trigger triggers true type types unbounded
        uncommitted undefined undo undo_buffer_size undofile unicode uninstall unknown unlock unregister
        until update upgrade uri url usage use use_frm user_resources validate validation varchar2
        variables vcpu vector verify_key_constraints versioning via view virtual visible wait warnings
        while within without work wrapper write x509 xa xid xml year_month zerofill zone
        """
    )
    | FUNCTIONS
    | MYSQL_FUNCTIONS
    | MARIADB_FUNCTIONS
    | GRAMMAR
)
"""All words of the two grammars. Behind any other word stands no expression."""

NEED_NO_SPACE = names(
    """
    adddate bit_and bit_or bit_xor cast count cume_dist curdate curtime date_add date_sub dense_rank
    extract first_value group_concat json_arrayagg json_objectagg lag lead max median mid min now
    nth_value ntile percent_rank percentile_cont percentile_disc position rank row_number session_user
    st_collect std stddev stddev_pop stddev_samp subdate substr substring sum sysdate system_user trim
    var_pop var_samp variance
    """
)
"""Built in only when their parenthesis follows at once; otherwise a function of the user's is called."""

LOCKS = names(
    """
    get_lock service_get_read_locks service_get_write_locks version_tokens_lock_exclusive
    version_tokens_lock_shared
    """
)
"""They take locks that outlast the transaction."""

UNLOCKING = names("release_all_locks release_lock")
"""They give back locks of GET_LOCK()."""

WRITES = names(
    """
    last_insert_id lastval nextval release_all_locks release_lock setval
    """
)
"""They change something, and are not to be sent twice or to a replica."""

DIAGNOSTICS = names(
    """
    found_rows lastval row_count wsrep_last_seen_gtid wsrep_last_written_gtid
    """
)
"""Their answer is about what this session did before. LAST_INSERT_ID() too, when it has no argument."""

FREE = {
    "analyze": "ANALYZE TABLE",
    "cache": "CACHE INDEX",
    "change": "CHANGE",
    "check": "CHECK TABLE",
    "checksum": "CHECKSUM TABLE",
    "clone": "CLONE",
    "delete": "DELETE",
    "do": "DO",
    "grant": "GRANT",
    "help": "HELP",
    "import": "IMPORT TABLE",
    "insert": "INSERT",
    "install": "INSTALL",
    "kill": "KILL",
    "optimize": "OPTIMIZE TABLE",
    "purge": "PURGE BINARY LOGS",
    "release": "RELEASE SAVEPOINT",
    "repair": "REPAIR TABLE",
    "replace": "REPLACE",
    "reset": "RESET",
    "resignal": "RESIGNAL",
    "restart": "RESTART",
    "revoke": "REVOKE",
    "savepoint": "SAVEPOINT",
    "select": "SELECT",
    "show": "SHOW",
    "shutdown": "SHUTDOWN",
    "signal": "SIGNAL",
    "stop": "STOP",
    "table": "TABLE",
    "truncate": "TRUNCATE TABLE",
    "uninstall": "UNINSTALL",
    "update": "UPDATE",
    "values": "VALUES",
}
"""Verbs that leave nothing behind but what the expressions in them do, by their first word."""

# fmt: off
NOT_COMMITTING = frozenset({
    "DELETE", "DO", "EXPLAIN", "GET DIAGNOSTICS", "HANDLER", "HELP", "INSERT", "KILL", "LOAD DATA",
    "RELEASE SAVEPOINT", "REPLACE", "RESIGNAL", "ROLLBACK", "ROLLBACK TO", "SAVEPOINT", "SELECT", "SET",
    "SET TRANSACTION", "SHOW", "SIGNAL", "TABLE", "UPDATE", "USE", "VALUES", "XA ROLLBACK",
})
"""What certainly makes nothing permanent that was done before. All else may: DDL and its kind commit first."""

OBJECTS = [(tuple(name.lower().split()), name) for name in (
    "AGGREGATE FUNCTION", "DATABASE", "EVENT", "FUNCTION", "INDEX", "INSTANCE", "JSON DUALITY VIEW",
    "JSON RELATIONAL DUALITY VIEW", "LIBRARY", "LOGFILE GROUP", "MASKING POLICY", "PROCEDURE", "RESOURCE GROUP",
    "ROLE", "SCHEMA", "SEQUENCE", "SERVER", "SPATIAL REFERENCE SYSTEM", "TABLE", "TABLESPACE", "TABLES", "TRIGGER",
    "UNDO TABLESPACE", "USER", "VIEW", "PREPARE",
)]
"""What CREATE, ALTER and DROP are about."""
# fmt: on

QUALIFIERS = names(
    "or replace temporary unique fulltext spatial online offline ignore sql security definer invoker algorithm external"
)
"""What stands before it; after `definer` and `algorithm` come a "=" and a value."""

_CHARSET = ("character_set_client", "character_set_results", "character_set_connection", "collation_connection")

CHANGED_TOGETHER = {
    "names": _CHARSET,
    "character": _CHARSET,
    "char": _CHARSET,
    "charset": _CHARSET,
    "character_set_connection": ("character_set_connection", "collation_connection"),
    "character_set_database": ("character_set_database", "collation_database"),
    "character_set_server": ("character_set_server", "collation_server"),
    "collation_connection": ("character_set_connection", "collation_connection"),
    "collation_database": ("character_set_database", "collation_database"),
    "collation_server": ("character_set_server", "collation_server"),
}
"""What SET of the first word changes, where that is not just the variable: trackers do not report all of it."""

STAYING_SETTINGS = names(
    """
    identity insert_id last_insert_id max_relay_log_size rand_seed1 rand_seed2 resultset_metadata server_id
    sql_slave_skip_counter timestamp
    """
)
STAYING_PREFIXES = ("dbug", "debug", "gtid_", "optimizer_trace", "profiling", "pseudo_", "session_track_")
"""Variables of a session that mean something only on the backend where they were set, change what we hear of it, or
set something of the server (those of MariaDB's replication)."""
