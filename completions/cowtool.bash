# Completion of cowtool for bash, made by "npm run man" from the commands: do not edit.
# To install it, copy it to ~/.local/share/bash-completion/completions/cowtool,
# or write `source .../cowtool.bash` into ~/.bashrc.
# A stack, BASE,LAYER..., is completed after its last comma where no file begins with the whole word.

# Offers these words and no files.
_cowtool_words() {
  compopt +o default +o bashdefault 2>/dev/null
  mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur")
}

_cowtool_directories() {
  compopt +o default +o bashdefault -o filenames 2>/dev/null
  mapfile -t COMPREPLY < <(compgen -d -- "$cur")
}

# Offers the next layer of a stack; for anything else bash completes names of files by itself.
_cowtool_layer() {
  [[ $cur == *,* && -z $(compgen -f -- "$cur") ]] || return
  compopt -o filenames 2>/dev/null
  mapfile -t COMPREPLY < <(compgen -P "${cur%,*}," -f -- "${cur##*,}")
}

_cowtool() {
  local cur=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]} flag=${COMP_WORDS[COMP_CWORD - 1]} i attached=
  COMPREPLY=()
  # bash splits --flag=value into three words.
  if [[ $cur == "=" ]]; then
    cur=
    attached=1
  elif [[ $flag == "=" ]]; then
    flag=${COMP_WORDS[COMP_CWORD - 2]}
    attached=1
  fi
  if ((COMP_CWORD == 1)); then
    _cowtool_words 'attach check checkpoint completion convert create ctl detach diff drop fork hash info invert map measure merge pack rebase repair resize rollback serve squash unpack verify-fingerprint help --help --version'
    return
  fi
  if [[ $command == help ]]; then
    ((COMP_CWORD == 2)) && _cowtool_words 'attach check checkpoint completion convert create ctl detach diff drop fork hash info invert map measure merge pack rebase repair resize rollback serve squash unpack verify-fingerprint'
    return
  fi
  for ((i = 2; i < COMP_CWORD; i++)); do
    if [[ ${COMP_WORDS[i]} == "--" ]]; then
      _cowtool_layer
      return
    fi
  done
  # The value of --json needs the sign.
  [[ $flag == --json && -z $attached ]] && flag=
  # The value of --map needs the sign.
  [[ $flag == --map && -z $attached ]] && flag=
  case "$command $flag" in
    "attach --export" | "attach --server" | "attach --wait" | "convert --chunk-size" | "convert --cluster-size" | "convert --replace" | "create --chunk-size" | "create --replace" | "ctl --bandwidth" | "ctl --below" | "ctl --iops" | "ctl --quota" | "ctl --reserve" | "ctl --server" | "diff --hexdump" | "diff --replace" | "hash --block-size" | "info --replace" | "invert --replace" | "measure --chunk-size" | "measure --cluster-size" | "merge --replace" | "pack --level" | "pack --replace" | "pack --threads" | "serve --dashboard" | "serve --listen" | "serve --max-connections" | "serve --max-depth" | "serve --quota" | "serve --reserve" | "serve --warn-below" | "squash --from" | "squash --replace" | "squash --to" | "unpack --replace" | "unpack --threads")
      _cowtool_words ''
      return
      ;;
    *" --json")
      _cowtool_words 'document lines'
      return
      ;;
    *" --progress")
      _cowtool_words 'auto bar plain json none'
      return
      ;;
    "check --rdofile" | "checkpoint --as" | "checkpoint --note" | "convert --base" | "create --from" | "create --stack" | "ctl --as" | "ctl --cowfile" | "ctl --exec" | "ctl --into" | "ctl --keep" | "ctl --note" | "ctl --stack-file" | "diff -o" | "diff --output" | "diff --rdofile" | "fork --cowfile" | "info -o" | "info --output" | "info --rdofile" | "invert --layer" | "invert -o" | "invert --output" | "measure --base" | "merge -o" | "merge --output" | "merge --undo" | "rebase --from" | "rebase --to" | "repair --rdofile" | "rollback --keep" | "serve --control" | "serve --export" | "serve --pid-file" | "serve --socket" | "serve --tls-psk")
      _cowtool_layer
      return
      ;;
    "convert --abi" | "create --abi" | "invert --abi" | "measure --abi" | "squash --abi")
      _cowtool_words 'le64 le32 be64 be32'
      return
      ;;
    "convert --to" | "measure --to")
      _cowtool_words 'raw cowfile dm-snapshot dm-cow qcow2'
      return
      ;;
    "create --format")
      _cowtool_words 'cowfile dm-snapshot'
      return
      ;;
    "create --identity")
      _cowtool_words 'full quick none'
      return
      ;;
    "diff --map" | "info --map")
      _cowtool_words 'text svg'
      return
      ;;
    "hash --digest")
      _cowtool_words 'sha256 sha512 sha1 blake2b512 blake2s256 sha3-256'
      return
      ;;
    "merge --prefer")
      _cowtool_words 'a b'
      return
      ;;
    "pack --format")
      _cowtool_words 'zstd gzip plain'
      return
      ;;
    "serve --log")
      _cowtool_words 'error warn info debug'
      return
      ;;
    "serve --state" | "serve --tls-certificates")
      _cowtool_directories
      return
      ;;
    "serve --tls")
      _cowtool_words 'require allow'
      return
      ;;
  esac
  if [[ $cur != -* ]]; then
    _cowtool_layer
    return
  fi
  case $command in
    attach) _cowtool_words '--export --list --server --wait --help --json --no-color --progress --quiet --verbose' ;;
    check) _cowtool_words '--force-share --keep-going --no-keep-going --rdofile --help --json --no-color --progress --quiet --verbose' ;;
    checkpoint) _cowtool_words '--as --note --help --json --no-color --progress --quiet --verbose' ;;
    completion) _cowtool_words '--help --json --no-color --progress --quiet --verbose' ;;
    convert) _cowtool_words '--abi --base --chunk-size --cluster-size --dry-run --flatten --force --replace --to --help --json --no-color --progress --quiet --verbose' ;;
    create) _cowtool_words '--abi --chunk-size --force --format --from --identity --replace --stack --help --json --no-color --progress --quiet --verbose' ;;
    ctl) _cowtool_words '--as --bandwidth --below --cowfile --discard --drain --ephemeral --exec --force --into --iops --keep --no-wait --note --quota --read-only --repair --reserve --server --stack-file --help --json --no-color --progress --quiet --verbose' ;;
    detach) _cowtool_words '--dry-run --orphans --help --json --no-color --progress --quiet --verbose' ;;
    diff) _cowtool_words '--force --hexdump --map --output --rdofile --replace --help --json --no-color --progress --quiet --verbose' ;;
    drop) _cowtool_words '--help --json --no-color --progress --quiet --verbose' ;;
    fork) _cowtool_words '--cowfile --help --json --no-color --progress --quiet --verbose' ;;
    hash) _cowtool_words '--block-size --digest --help --json --no-color --progress --quiet --verbose' ;;
    info) _cowtool_words '--force --force-share --keep-going --map --no-keep-going --output --rdofile --replace --help --json --no-color --progress --quiet --verbose' ;;
    invert) _cowtool_words '--abi --force --layer --output --replace --help --json --no-color --progress --quiet --verbose' ;;
    map) _cowtool_words '--svg --help --json --no-color --progress --quiet --verbose' ;;
    measure) _cowtool_words '--abi --base --chunk-size --cluster-size --to --help --json --no-color --progress --quiet --verbose' ;;
    merge) _cowtool_words '--dry-run --force --give-up --output --prefer --replace --undo --yes --help --json --no-color --progress --quiet --verbose' ;;
    pack) _cowtool_words '--force --format --level --replace --threads --help --json --no-color --progress --quiet --verbose' ;;
    rebase) _cowtool_words '--drop-equal --dry-run --force --from --to --unsafe --help --json --no-color --progress --quiet --verbose' ;;
    repair) _cowtool_words '--drop-lost --dry-run --force --keep-going --no-keep-going --rdofile --help --json --no-color --progress --quiet --verbose' ;;
    resize) _cowtool_words '--dry-run --force --shrink --help --json --no-color --progress --quiet --verbose' ;;
    rollback) _cowtool_words '--discard --keep --yes --help --json --no-color --progress --quiet --verbose' ;;
    serve) _cowtool_words '--control --dashboard --ephemeral --exit-last --export --force --insecure --listen --log --max-connections --max-depth --pid-file --quota --read-only --repair --reserve --socket --state --stdio --tls --tls-certificates --tls-psk --warn-below --help --json --no-color --progress --quiet --verbose' ;;
    squash) _cowtool_words '--abi --force --from --replace --to --help --json --no-color --progress --quiet --verbose' ;;
    unpack) _cowtool_words '--force --replace --threads --help --json --no-color --progress --quiet --verbose' ;;
    verify-fingerprint) _cowtool_words '--full --keep-going --no-keep-going --help --json --no-color --progress --quiet --verbose' ;;
  esac
}

complete -o bashdefault -o default -F _cowtool cowtool
