# Owns what zsh's completion offers: types LINE and a tab into an interactive zsh, and prints every candidate that the
# completion functions in DIRECTORY hand to the shell, as the word would then be.
#
#   zsh -f capture-completion.zsh DIRECTORY LINE
#
# Exit status 1 if the shell did not answer.
zmodload zsh/zpty || exit 2
typeset found=$(mktemp -d) typed=$2
integer rounds=0

print -r -- '
PROMPT=
fpath=($COMPLETIONS $fpath)
autoload -Uz compinit && compinit -u -D
bindkey "^I" complete-word
zstyle ":completion:*" insert-tab false
finish () { print -r -- done >$FOUND/done; exit }
comppostfuncs=( finish )
compadd () {
  if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then builtin compadd "$@"; return $?; fi
  local -a hits path_prefix hidden_prefix
  builtin compadd -A hits "$@"
  zparseopts -E P:=path_prefix p:=hidden_prefix
  local hit
  for hit in $hits; do print -r -- "$IPREFIX$path_prefix[2]$hidden_prefix[2]$hit" >>$FOUND/hits; done
  builtin compadd "$@"
}
: >$FOUND/ready' >$found/.zshrc

export ZDOTDIR=$found FOUND=$found COMPLETIONS=$1 TERM=dumb
: >$found/hits
zpty -b shell zsh -i
while [[ ! -e $found/ready ]] && (( rounds++ < 500 )); do zpty -r -t shell rest; sleep 0.02; done
# The line editor comes up after the start-up file; what is typed until then waits in the terminal.
zpty -n -w shell "$typed"$'\t'
while [[ ! -e $found/done ]] && (( rounds++ < 1000 )); do zpty -r -t shell rest; sleep 0.02; done
[[ -e $found/done ]] && cat $found/hits
integer failed=$?
zpty -d shell
rm -rf $found
exit $failed
