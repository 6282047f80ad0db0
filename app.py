"""Starts the page: `python app.py`, and the entry of the Hugging Face Space."""

if __name__ == "__main__":  # a run's process imports this file again, and must not open a second page
    from sftdemo.core.environment import prepare

    prepare()  # before Gradio is imported

    from sftdemo.ui import launch

    launch()
