-- The names in an env by which a loader, shell, interpreter, package manager or TLS library runs or
-- trusts something else than it would. A deployment that sets one decides which code runs, so it
-- needs what a command needs. Trust in a package would otherwise be trust in all that may insert.
-- The generated column deployment.signature holds the same expression, and so does
-- syntax/code-variables.ts; test/sql/placement/code_variables.test.ts compares the three.
create or replace function mooring_internal.code_variables(env jsonb) returns text[]
  language sql immutable parallel safe
  set search_path = pg_catalog, pg_temp
return (
  select coalesce(array_agg(k.name order by k.name), '{}')
    from jsonb_object_keys(code_variables.env) k (name)
   where k.name ~* (
     '^('
     'LD_.*|DYLD_.*|GLIBC_TUNABLES|GCONV_PATH|GETCONF_DIR|LOCPATH|NLSPATH|'
     'HOSTALIASES|RESOLV_HOST_CONF|RES_OPTIONS|LOCALDOMAIN|MALLOC_TRACE|PATH|HOME|'
     'SHELL|ENV|BASH_.*|SHELLOPTS|BASHOPTS|IFS|PS4|PROMPT_COMMAND|CDPATH|ZDOTDIR|'
     'XDG_(CONFIG|DATA)_.*|EDITOR|VISUAL|PAGER|BROWSER|LESSOPEN|LESSCLOSE|TERMINFO.*|'
     'NODE_(OPTIONS|PATH|EXTRA_CA_CERTS|TLS_REJECT_UNAUTHORIZED|ICU_DATA)|'
     'NODE_(COMPILE_CACHE|V8_COVERAGE|REDIRECT_WARNINGS)|'
     'NODE_(REPL_|CHANNEL_|PRESERVE_SYMLINKS|USE_).*|TS_NODE_.*|ELECTRON_RUN_AS_NODE|'
     'NPM_CONFIG_.*|YARN_.*|PNPM_HOME|COREPACK_.*|'
     'PYTHON(PATH|HOME|STARTUP|INSPECT|BREAKPOINT|WARNINGS|USERBASE|PYCACHEPREFIX)|'
     'PERL.*|RUBY.*|GEM_.*|BUNDLE_.*|_JAVA_OPTIONS|JAVA_TOOL_OPTIONS|'
     'JDK_JAVA_OPTIONS|JAVA_HOME|CLASSPATH|LUA_.*|PHPRC|PHP_INI_SCAN_DIR|'
     'DOTNET_(STARTUP_HOOKS|ROOT.*|ADDITIONAL_DEPS|SHARED_STORE)|CORECLR_.*|'
     'COR_(ENABLE_PROFILING|PROFILER.*)|'
     'GIT_(SSH.*|ASKPASS|EXEC_PATH|TEMPLATE_DIR|CONFIG.*|DIR|WORK_TREE)|'
     'GIT_(EDITOR|PAGER|PROXY_COMMAND|EXTERNAL_DIFF)|SSH_(ASKPASS.*|AUTH_SOCK)|'
     'OPENSSL_.*|SSL_CERT_.*|SSLKEYLOGFILE|(CURL|REQUESTS|AWS)_CA_BUNDLE'
     ')$'));
comment on function mooring_internal.code_variables(jsonb) is
  'The names in an env that decide which code runs.';
