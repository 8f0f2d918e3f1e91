/** The word in front of a question that a shell asks; not a command for people. */
export const COMPLETE = '__complete'

export const SHELLS = ['bash', 'zsh', 'fish', 'powershell'] as const
export type Shell = (typeof SHELLS)[number]

/**
 * What makes a shell complete weir's command lines. All four do the same: they hand the words up to the cursor to
 * `weir __complete SHELL -- …` and offer what it prints, one candidate per line with a tab and a description behind it.
 * Lines that begin with a colon are orders: `:files` and `:dirs` (offer those too), `:nospace`.
 */
export const COMPLETION_SCRIPTS: Readonly<Record<Shell, string>> = {
  bash: `# Completion of weir for bash: source <(weir completion bash)
_weir_complete() {
    local line answer
    COMPREPLY=()
    answer=$("\${1/#\\~/$HOME}" ${COMPLETE} bash -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null) || return 0
    while IFS= read -r line; do
        case $line in
            :files) compopt -o default 2>/dev/null ;;
            :dirs) compopt -o dirnames 2>/dev/null ;;
            :nospace) compopt -o nospace 2>/dev/null ;;
            :* | '') ;;
            *) COMPREPLY+=("\${line%%$'\\t'*}") ;;
        esac
    done <<<"$answer"
}
complete -F _weir_complete weir
`,
  zsh: `#compdef weir
# Completion of weir for zsh: source <(weir completion zsh), or save it as _weir in a directory of $fpath
_weir() {
    local line value description orders
    local -a candidates space
    for line in "\${(@f)$(\${(Q)words[1]/#\\~/$HOME} ${COMPLETE} zsh -- "\${(@Q)words[2,CURRENT]}" 2>/dev/null)}"; do
        case $line in
            :*) orders="$orders$line" ;;
            ?*)
                value=\${line%%$'\\t'*}
                description=\${line#*$'\\t'}
                candidates+=("\${value//:/\\\\:}:$description")
                ;;
        esac
    done
    [[ $orders == *:nospace* ]] && space=(-S '')
    (( $#candidates )) && _describe -t weir weir candidates $space
    [[ $orders == *:files* ]] && _files
    [[ $orders == *:dirs* ]] && _files -/
    return 0
}
if [[ $funcstack[1] == _weir ]]; then
    _weir "$@"
else
    compdef _weir weir
fi
`,
  fish: `# Completion of weir for fish: weir completion fish | source
function __weir_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l answer (command $words[1] ${COMPLETE} fish -- $words[2..] "$current" 2>/dev/null)
    for line in $answer
        switch $line
            case ':files'
                __fish_complete_path "$current"
            case ':dirs'
                __fish_complete_directories "$current"
            case ':*' ''
            case '*'
                echo $line
        end
    end
end
complete -c weir -f -a '(__weir_complete)'
`,
  powershell: `# Completion of weir for PowerShell: weir completion powershell | Out-String | Invoke-Expression
Register-ArgumentCompleter -Native -CommandName weir -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $words = @($commandAst.CommandElements | Where-Object { $_.Extent.StartOffset -lt $cursorPosition } | ForEach-Object { $_.ToString() })
    $program = $words[0]
    $before = @($words | Select-Object -Skip 1)
    if ($wordToComplete -eq '') { $before += '""' }
    & $program ${COMPLETE} powershell -- @before 2>$null | Where-Object { $_ -and -not $_.StartsWith(':') } | ForEach-Object {
        $value, $description = $_ -split "\`t", 2
        if (-not $description) { $description = $value }
        [System.Management.Automation.CompletionResult]::new($value, $value, 'ParameterValue', $description)
    }
}
`,
}
