# Dumps that the JSON libraries of others read and write again: Kiln then reads every value as it was, or refuses the text.
# Runs with what is installed and says what is not. `make json-libraries` installs all of it first (Debian, npm): then
# nothing may be missing.
set -eu
build=${BUILD:-build}
case $build in *asan* | *tsan* | *arm64*) echo "skipped: not for sanitizer and cross builds"; exit 0 ;; esac
judge=$build/tests/capture/test_json_rewritten here=tests/tools/rewriters mode=${KILN_JSON_LIBRARIES:-installed}
[ -x "$judge" ] || { echo "$judge is not built: make $judge"; exit 1; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
bad=0 tried=0 missing=

if [ "$mode" = all ]; then
    sudo=$([ "$(id -u)" = 0 ] || echo sudo)
    boost=$(apt-cache search --names-only '^libboost-json[0-9.]*-dev$' | sort -V | tail -n 1 | cut -d ' ' -f 1)
    # Node may have come in another way.
    npm=$(command -v npm >/dev/null || echo nodejs npm)
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $npm python3 python3-ujson \
        python3-simplejson python3-rapidjson jq perl libjson-xs-perl libcpanel-json-xs-perl ruby php-cli lua5.4 lua-cjson lua-dkjson \
        r-cran-jsonlite golang-go sqlite3 g++ libjansson-dev libjson-c-dev libyajl-dev libjson-glib-dev rapidjson-dev \
        nlohmann-json3-dev libjsoncpp-dev $boost >/dev/null
    npm install --prefix "$tmp" --silent --no-audit --no-fund json-bigint@1.0.0 lossless-json@4.0.2 json5@2.2.3 \
        fast-json-stable-stringify@2.1.0 yaml@2.6.1
    # Python: Debian's, whose libraries these are.
    PATH=/usr/bin:$PATH NODE_PATH=$tmp/node_modules
    export PATH NODE_PATH
fi

"$judge" --write "$tmp"

# try NAME COMMAND...: the command rewrites standard input to standard output.
try() {
    name=$1
    shift
    tried=$((tried + 1))
    for f in values plan; do
        "$@" <"$tmp/$f.json" >"$tmp/$f.out" 2>"$tmp/log" || {
            echo "$name cannot rewrite $f.json:"
            head -n 5 "$tmp/log"
            bad=1
            return
        }
    done
    "$judge" --judge "$name" "$tmp" >"$tmp/row" && code=0 || code=1
    # What changes values is known by name: it prints too few digits, which nothing in its text shows.
    case $name in
    *" (lossy)") [ $code = 1 ] || { echo "$name keeps all values now"; bad=1; } ;;
    *) [ $code = 0 ] || bad=1 ;;
    esac
    cat "$tmp/row"
}

# has NAME COMMAND...: does the command work here?
has() {
    name=$1
    shift
    "$@" >/dev/null 2>&1 </dev/null && return
    missing="$missing, $name"
    return 1
}

python() { # NAME IMPORT STATEMENT VERSION
    has "$1" python3 -c "$2" || return 0
    try "$1 $(python3 -c "$2; print($4)")" python3 -c "$2; from sys import stdin, stdout; $3"
}
python 'Python json' 'import json, platform' 'json.dump(json.load(stdin), stdout)' 'platform.python_version()'
for j in ujson simplejson rapidjson; do python $j "import $j" "$j.dump($j.load(stdin), stdout)" $j.__version__; done

node_library() { # NAME STATEMENT; the package is `j`, the text is `v`
    has "$1" node -e "require('$1')" || return 0
    version=$(sed -n 's/.*"version": *"\([0-9][^"]*\)".*/\1/p' "${NODE_PATH:-node_modules}/$1/package.json" | head -n 1)
    try "$1 $version" node -e "const j = require('$1'), v = require('fs').readFileSync(0, 'utf8'); process.stdout.write($2)"
}
has node node -e 0 && try "node $(node -v)" node -e \
    "process.stdout.write(JSON.stringify(JSON.parse(require('fs').readFileSync(0, 'utf8'))))" || true
node_library json-bigint 'j.stringify(j.parse(v))'
node_library lossless-json 'j.stringify(j.parse(v))'
node_library json5 'JSON.stringify(j.parse(v))'
node_library fast-json-stable-stringify 'j(JSON.parse(v))'
node_library yaml 'JSON.stringify(j.parse(v))'

perl_library() {
    has "$1" perl "-M$1" -e 0 || return 0
    try "$1 $(perl "-M$1" -e "print \$$1::VERSION")" perl "-M$1" -e \
        "local \$/; print $1->new->utf8->encode($1->new->utf8->decode(<STDIN>))"
}
perl_library JSON::PP
perl_library JSON::XS
perl_library Cpanel::JSON::XS

lua_library() {
    has "lua $1" lua5.4 -e "require '$1'" || return 0
    try "lua $1" lua5.4 -e "local j = require '$1'; io.write(j.encode((j.decode(io.read('a')))))"
}
lua_library cjson
lua_library dkjson

has jq jq --version && try "$(jq --version)" jq . || true
has ruby ruby -e 0 && try "ruby json $(ruby -rjson -e 'print JSON::VERSION')" \
    ruby -rjson -e 'print JSON.generate(JSON.parse(STDIN.read))' || true
has php php -r 0\; && try "php $(php -r 'echo PHP_VERSION;')" \
    php -r 'echo json_encode(json_decode(stream_get_contents(STDIN)));' || true
has sqlite3 sqlite3 :memory: "select json('1')" && try "sqlite3 $(sqlite3 --version | cut -d ' ' -f 1)" \
    sqlite3 -noheader :memory: "select json(readfile('/dev/stdin'))" || true

# Libraries that have to be compiled, and R, which starts slowly: only where all of it is asked for.
compiled() { # NAME SOURCE PACKAGE
    has "$1" pkg-config --exists "$3" || return 0
    case $2 in *.cc) compiler="${CXX:-c++} -std=c++17" ;; *) compiler=${CC:-cc} ;; esac
    $compiler -O1 -w $here/$2 -o "$tmp/rewriter" $(pkg-config --cflags --libs "$3")
    try "$1 $(pkg-config --modversion "$3")" "$tmp/rewriter"
}
if [ "$mode" = all ]; then
    has go go version && go build -o "$tmp/go" $here/go.go && try "$(go version | cut -d ' ' -f 3)" "$tmp/go" || true
    has jsonlite Rscript -e 'library(jsonlite)' && try 'R jsonlite (lossy)' Rscript -e 'library(jsonlite)
        v <- fromJSON(readLines(file("stdin"), warn = FALSE), simplifyVector = FALSE)
        cat(toJSON(v, auto_unbox = TRUE, null = "null"))' || true
    compiled jansson jansson.c jansson
    compiled json-c json-c.c json-c
    compiled yajl yajl.c yajl
    compiled json-glib json-glib.c json-glib-1.0
    compiled RapidJSON rapidjson.cc RapidJSON
    compiled nlohmann nlohmann.cc nlohmann_json
    compiled jsoncpp jsoncpp.cc jsoncpp
    c++ -std=c++17 -O1 -w $here/boost.cc -o "$tmp/rewriter" && try Boost.JSON "$tmp/rewriter"
    [ -z "$missing" ] || { echo "missing although all was installed${missing#,}"; bad=1; }
fi
[ -z "$missing" ] || echo "skipped: not installed:${missing#,} (make json-libraries installs and tries all)"
echo "$tried JSON libraries of others tried"
exit $bad
