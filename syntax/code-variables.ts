/**
 * The variables by which a loader, shell, interpreter, package manager or TLS library runs or
 * trusts something else than it would. A deployment that sets one needs what a command needs.
 * SQL: mooring_internal.code_variables; test/sql/placement/code_variables.test.ts compares the two.
 */

/** The names in an env that decide which code runs, in order. */
export function codeVariables(env: Readonly<Record<string, string>>): string[] {
  return Object.keys(env)
    .filter((name) => CODE_VARIABLE.test(name))
    .sort()
}

const CODE_VARIABLE = new RegExp(
  `^(${[
    'LD_.*|DYLD_.*|GLIBC_TUNABLES|GCONV_PATH|GETCONF_DIR|LOCPATH|NLSPATH|HOSTALIASES',
    'RESOLV_HOST_CONF|RES_OPTIONS|LOCALDOMAIN|MALLOC_TRACE|PATH|HOME|SHELL|ENV|BASH_.*',
    'SHELLOPTS|BASHOPTS|IFS|PS4|PROMPT_COMMAND|CDPATH|ZDOTDIR|XDG_(CONFIG|DATA)_.*',
    'EDITOR|VISUAL|PAGER|BROWSER|LESSOPEN|LESSCLOSE|TERMINFO.*',
    'NODE_(OPTIONS|PATH|EXTRA_CA_CERTS|TLS_REJECT_UNAUTHORIZED|ICU_DATA)',
    'NODE_(COMPILE_CACHE|V8_COVERAGE|REDIRECT_WARNINGS)',
    'NODE_(REPL_|CHANNEL_|PRESERVE_SYMLINKS|USE_).*|TS_NODE_.*|ELECTRON_RUN_AS_NODE',
    'NPM_CONFIG_.*|YARN_.*|PNPM_HOME|COREPACK_.*',
    'PYTHON(PATH|HOME|STARTUP|INSPECT|BREAKPOINT|WARNINGS|USERBASE|PYCACHEPREFIX)',
    'PERL.*|RUBY.*|GEM_.*|BUNDLE_.*|_JAVA_OPTIONS|JAVA_TOOL_OPTIONS|JDK_JAVA_OPTIONS',
    'JAVA_HOME|CLASSPATH|LUA_.*|PHPRC|PHP_INI_SCAN_DIR',
    'DOTNET_(STARTUP_HOOKS|ROOT.*|ADDITIONAL_DEPS|SHARED_STORE)|CORECLR_.*',
    'COR_(ENABLE_PROFILING|PROFILER.*)',
    'GIT_(SSH.*|ASKPASS|EXEC_PATH|TEMPLATE_DIR|CONFIG.*|DIR|WORK_TREE)',
    'GIT_(EDITOR|PAGER|PROXY_COMMAND|EXTERNAL_DIFF)|SSH_(ASKPASS.*|AUTH_SOCK)',
    'OPENSSL_.*|SSL_CERT_.*|SSLKEYLOGFILE|(CURL|REQUESTS|AWS)_CA_BUNDLE',
  ].join('|')})$`,
  'i',
)
